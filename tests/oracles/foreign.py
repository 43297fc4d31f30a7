"""For the recording scripts: a foreign program read out of a clone at a named commit and loaded as a module.

Nothing of it is kept but the figures it gives."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from tests.oracles.figures import RECORDED


def clone_from(arguments: Sequence[str] | None, repository: str, commit: str) -> Path:
    """The folder of a clone of `repository` that has `commit`, from the option --from."""
    parser = argparse.ArgumentParser(description=f"Record what {repository} gives at commit {commit}.")
    parser.add_argument("--from", dest="folder", type=Path, required=True, help=f"a git clone of {repository}")
    folder: Path = parser.parse_args(arguments).folder
    if subprocess.run(["git", "-C", folder, "cat-file", "-e", commit], check=False).returncode:
        parser.error(f"{folder} has no commit {commit}: give a clone of https://github.com/{repository}")
    return folder


def load(folder: Path, commit: str, path: str, stubs: Sequence[str] = ()) -> Any:
    """The module at `path` as it was at `commit`. `stubs`: modules that it imports and does not need here."""
    text = subprocess.run(["git", "-C", folder, "show", f"{commit}:{path}"], check=True, capture_output=True).stdout
    module = ModuleType(Path(path).stem)
    sys.modules[module.__name__] = module
    with mock.patch.dict(sys.modules, {stub: _Anything(stub) for stub in stubs}):
        exec(compile(text, path, "exec"), module.__dict__)
    return module


def keep(name: str, arrays: Mapping[str, Any]) -> None:
    """Write `recorded/NAME.npz`."""
    RECORDED.mkdir(exist_ok=True)
    where = RECORDED / f"{name}.npz"
    np.savez_compressed(where, **{key: np.asarray(value) for key, value in arrays.items()})
    print(f"{where}: {where.stat().st_size} bytes, {len(arrays)} arrays")


class _Anything(ModuleType):
    """A module that has whatever name is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
