"""Imports run one way, and each heavy library has its rooms: read from the source, function-level imports too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raytile"

# A room may import itself, and those that stand here; `sync`, `models` and `canvas` never one another.
_PURE = {"errors", "events", "geometry", "plan"}
_ENGINE = _PURE | {"sampling", "sync", "models", "canvas"}
_API = _ENGINE | {"engine"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "events": set(),
    "geometry": {"errors", "events"},
    "plan": {"errors", "events", "geometry"},
    "sampling": _PURE,
    "sync": _PURE,
    "models": _PURE | {"sampling"},
    "canvas": _PURE,
    "engine": _ENGINE,
    "api": _API | {"metrics"},
    "metrics": {"errors", "events"},
    "serve": _API | {"api", "metrics"},
    "train": _API | {"api"},
    "cli": _API | {"api", "metrics", "serve", "train", "package"},
    "package": _API | {"api"},
}
# Files beside the rooms, by the room they belong to.
BESIDE = {
    "__init__": "package",
    "__main__": "cli",
    "batch": "cli",
    "cli_drain": "cli",
    "cli_options": "cli",
    "cli_paint": "cli",
    "cli_picture": "cli",
    "cli_remote": "cli",
    "cli_rework": "cli",
    "cli_serve": "cli",
    "cli_top": "cli",
    "cli_view": "cli",
    "manifest": "cli",
    "meter": "metrics",
    "news": "cli",
    "progress": "cli",
    "remote": "cli",
    "report": "cli",
    "reworks": "api",
    "series": "metrics",
    "scenes": "api",
    "top": "cli",
    "pipeline": "api",
    "preview": "api",
    "taking": "api",
}
# Where a library may appear; every other file must do without.
LIBRARIES = {
    "torch": ("sampling.py", "sync/*", "models/*", "engine/*", "pipeline.py", "train/*"),
    "diffusers": ("models/*", "train/*"),
    "transformers": ("models/*", "train/*"),
    "zarr": ("canvas/*",),
    "pyvips": ("canvas/*",),
    "obstore": ("canvas/*",),
    "boto3": ("canvas/*",),
    "ray": ("engine/ray/*", "serve/deployment.py", "serve/cast.py", "metrics.py", "train/*"),
    "yaml": ("scenes.py", "serve/settings.py"),
    "fastapi": ("serve/*",),
    "typer": (
        "cli.py",
        "cli_drain.py",
        "cli_options.py",
        "cli_paint.py",
        "cli_picture.py",
        "cli_remote.py",
        "cli_rework.py",
        "cli_serve.py",
        "cli_top.py",
        "cli_view.py",
        "train/cli.py",
    ),
    "httpx2": ("remote.py",),
    "rich": ("cli.py", "cli_paint.py", "cli_remote.py", "cli_top.py", "progress.py", "report.py", "top.py", "train/*"),
}
# These rooms know nothing but the standard library and this.
FRUGAL = {
    "errors": set[str](),
    "events": set[str](),
    "geometry": {"numpy"},
    "plan": {"numpy", "pydantic"},
    "sampling": {"torch"},
    "sync": {"torch", "numpy"},
}


def room_of(dotted: str) -> str:
    """The room that `raytile.dotted` lies in."""
    first = dotted.partition(".")[0]
    return BESIDE.get(first, first)


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "raytile":
                yield from ((node.lineno, f"raytile.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, "." * node.level + (node.module or "")


def complaints(file: str, source: str) -> Iterator[str]:
    """What is wrong with the imports of `file`, a path inside the package."""
    parts = Path(file).with_suffix("").parts
    room = room_of(parts[0])
    for line, name in imports(source):
        where = f"raytile/{file}:{line}:"
        top, _, rest = name.partition(".")
        if top == "raytile":
            other = room_of(rest) if rest else "package"
            if not (PACKAGE / rest.partition(".")[0]).exists() and not (PACKAGE / f"{rest.split('.')[0]}.py").exists():
                other = "package"  # a name of the package itself
            if name != "raytile.__version__" and other != room and other not in MAY_IMPORT[room]:
                yield f"{where} {room} must not import {other}"
        elif not top:
            yield f"{where} write imports in full, from raytile"
        elif top in LIBRARIES and not any(fnmatch(file, pattern) for pattern in LIBRARIES[top]):
            yield f"{where} {top} belongs to {', '.join(LIBRARIES[top])}"
        elif room in FRUGAL and top not in FRUGAL[room] | sys.stdlib_module_names:
            yield f"{where} {room} does without {top}"


def test_imports_run_one_way() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    found = [
        complaint
        for file in files
        for complaint in complaints(file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_every_file_lies_in_a_room() -> None:
    found = {room_of(path.relative_to(PACKAGE).with_suffix("").parts[0]) for path in PACKAGE.rglob("*.py")}
    assert found <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("geometry/box.py", "import pydantic", "geometry does without pydantic"),
        ("plan/cost.py", "def f():\n    from raytile.engine import driver", ":2: plan must not import engine"),
        ("models/toy.py", "from raytile.sync.fuse import fuse", "models must not import sync"),
        ("canvas/store.py", "if TYPE_CHECKING:\n    from raytile.models import base", "canvas must not import models"),
        ("engine/driver.py", "import ray", "ray belongs to"),
        ("engine/tile_group.py", "from diffusers import X", "diffusers belongs to"),
        ("sync/fuse.py", "from raytile import api", "sync must not import api"),
        ("api.py", "import zarr.codecs", "zarr belongs to"),
        ("engine/state.py", "from raytile import RenderRequest", "engine must not import package"),
        ("engine/flow.py", "from .pool import Pool", "write imports in full"),
    ],
)
def test_an_import_against_the_rule_is_named(file: str, source: str, complaint: str) -> None:
    (found,) = complaints(file, source)
    assert complaint in found


@pytest.mark.parametrize(
    "code",
    [
        "import raytile",
        "import raytile.cli",
        "from raytile.cli import main; assert main(['render', '--help']) == 0",
    ],
)
def test_help_and_a_bare_import_load_nothing_heavy(code: str) -> None:
    assert not _loaded(code) & {"torch", "ray", "zarr", "diffusers", "transformers", "numpy", "raytile.api"}


@pytest.mark.parametrize(
    "code",
    [
        "import raytile.api, raytile.engine.driver, raytile.engine.ray.actor, raytile.engine.ray.pool",
        "from raytile import RenderRequest, plan; plan(RenderRequest(prompt='x', width=300, height=200, model='toy'))",
        "from raytile.cli import main; assert main(['plan', 'x', '--size', '300x200', '--model', 'toy']) == 0",
    ],
)
def test_the_drivers_side_and_planning_load_neither_torch_nor_ray(code: str) -> None:
    assert not _loaded(code) & {"torch", "ray", "diffusers", "transformers"}


def _loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_plan_can_be_called_whatever_was_imported_first() -> None:
    wish = "raytile.RenderRequest(prompt='x', width=300, height=200, model='toy')"
    for before in ("", "import raytile.plan.plan; ", "from raytile.plan.request import RenderRequest; "):
        code = (
            f"import raytile; {before}assert raytile.plan({wish}).request.width == 300; import raytile.plan.cost as c"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
