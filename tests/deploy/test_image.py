"""The image: what its Dockerfile promises, held by reading and linting it, and the wheel that it builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.deploy import dockerfile
from tests.deploy.dockerfile import DOCKERFILE, ROOT

BIN = Path(sys.executable).parent
ARGUMENTS, STAGES = dockerfile.stages()
BY_NAME = {stage.name: stage for stage in STAGES}
RUNTIME = STAGES[-1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "hadolint"), "--no-color", str(file)], capture_output=True, text=True)


def test_hadolint_finds_nothing() -> None:
    found = lint(DOCKERFILE)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("python:3.11.15-slim-bookworm", "python:latest", "DL3007"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("WORKDIR /home/raytile", "WORKDIR home", "DL3000"),
    ],
)
def test_hadolint_finds_what_is_wrong(right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    text = DOCKERFILE.read_text()
    assert right in text
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace(right, wrong).replace("FROM ${BASE}", f"FROM {wrong}" if ":" in wrong else "FROM x:1"))
    assert rule in lint(file).stdout


def test_every_stage_stands_on_a_fixed_base_or_on_one_before() -> None:
    known: set[str] = set()
    for stage in STAGES:
        if stage.base not in {*known, "scratch"}:
            assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", stage.base)
        known.add(stage.name)
    assert RUNTIME.name == "runtime"


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    before: set[str] = set()
    for stage in STAGES:
        for origin, sources, _ in stage.copies():
            if origin is None:
                assert [name for name in sources if not dockerfile.is_sent(name)] == []
            else:
                assert origin in before
        before.add(stage.name)


def test_nothing_else_is_sent_to_the_builder() -> None:
    copied = {name for stage in STAGES for origin, sources, _ in stage.copies() if origin is None for name in sources}
    sent = dockerfile.context()
    assert {name.split("/")[0] for name in sent} == copied
    assert [name for name in sent if "__pycache__" in name or "web/dist" in name or "node_modules" in name] == []
    tracked = subprocess.run(["git", "ls-files", "raytile"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.splitlines()) <= set(sent)


def test_secrets_and_history_are_never_sent(tmp_path: Path) -> None:
    for name in (
        ".env",
        "keys.json",
        "raytile/__pycache__/a.pyc",
        "planet.zarr/head.json",
        "raytile/serve/web/dist/x.js",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    assert dockerfile.context(tmp_path) == []


def test_pip_is_held_by_the_constraints() -> None:
    for stage in STAGES:
        if any("pip" in value for value in stage.values("RUN")):
            assert stage.base == "tools"
    given = BY_NAME["tools"].variables()
    assert given["PIP_CONSTRAINT"] == given["PIP_BUILD_CONSTRAINT"] == "/src/constraints.txt"
    assert BY_NAME["tools"].copies()[0][1] == ["constraints.txt", "pyproject.toml"]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().split()}
    needed = {re.split(r"[\[<>=]", need)[0] for need in PROJECT["dependencies"]}
    assert needed <= pinned
    assert {"hatchling", "torch"} <= pinned


def test_the_wheel_is_built_with_its_page_and_is_the_version_that_it_says() -> None:
    assert any("RAYTILE_WEB=require" in value for value in BY_NAME["wheel"].values("RUN"))
    assert RUNTIME.variables()["VERSION"] == PROJECT["version"]
    assert f"raytile/raytile:{PROJECT['version']} ." in DOCKERFILE.read_text()


def test_it_runs_as_nobody_special_with_raytile_first() -> None:
    assert RUNTIME.values("USER") == ["1000:1000"]
    assert RUNTIME.values("WORKDIR") == ["/home/raytile"]
    assert RUNTIME.values("HEALTHCHECK") == ["NONE"]
    assert set(RUNTIME.values("EXPOSE")[0].split()) == {"6379", "10001", "8080", "8265", "8000"}
    given = RUNTIME.variables()
    assert given["PATH"].split(":")[0] == "/opt/raytile/bin"
    assert given["HOME"] == "/home/raytile"
    (made,) = RUNTIME.values("RUN")
    assert "PATH=/opt/raytile/bin:$PATH' > /etc/profile.d/" in made  # of login shells
    assert re.search(r"install --yes --no-install-recommends ([a-z -]+) +&&", made)[1].split() == [  # type: ignore[index]
        "ca-certificates",
        "wget",
    ]
    after = [name for name, _ in RUNTIME.steps]
    assert "RUN" not in after[after.index("USER") :]
    assert "ENTRYPOINT" not in after  # the operator brings a command of its own


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", ""), ("cpu", "--no-deps --index-url https://a/b torch"), ("tpu", "")]
)
def test_the_device_chooses_the_build_of_torch(device: str, words: str, tmp_path: Path) -> None:
    """The very command, with a pip that tells what it was asked."""
    (chosen,) = [value for value in BY_NAME["install"].values("RUN") if "DEVICE" in value]
    told = tmp_path / "told"
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\nshift\necho "$@" > {told}\n')
    pip.chmod(0o755)
    variables = {"DEVICE": device, "TORCH_CPU_INDEX": "https://a/b", "PATH": "/usr/bin:/bin"}
    chosen = chosen.replace("/opt/raytile/bin/pip", str(pip))
    done = subprocess.run(["/bin/sh", "-c", chosen], env=variables, capture_output=True, text=True)
    assert done.returncode == (device == "tpu"), done.stderr
    assert ("take cuda or cpu" in done.stderr) == (device == "tpu")
    assert (told.read_text().strip() if told.exists() else "") == words


def test_the_wheel_holds_the_page_and_the_model_and_no_more(tmp_path: Path) -> None:
    """Built from what the builder is given, by the hook that the image's build runs, and with the page as demanded."""
    source = tmp_path / "src"
    for name in dockerfile.context():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")]
    environment = {**os.environ, "RAYTILE_WEB": "require"}
    subprocess.run(build, cwd=source, env=environment, check=True, capture_output=True, text=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    assert wheel.name == f"raytile-{PROJECT['version']}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"raytile", f"raytile-{PROJECT['version']}.dist-info"}
    for name in (
        "serve/web/dist/index.html",
        "serve/web/dist/vendor/openseadragon.min.js",
        "models/terra/model_index.json",
    ):
        assert f"raytile/{name}" in names
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in names)
    assert [name for name in names if "web/src" in name or "package" in name or name.endswith(".stamp")] == []
