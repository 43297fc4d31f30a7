"""A training's state on disk: written whole or not at all, and a pid file by which it can be paused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

DEFAULT_STATE = Path("~/.cache/raytile/train").expanduser()


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Replace `file` by `state` (tensors, numbers, strings and containers of these) in one rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    torch.save(state, part)
    os.replace(part, file)


def load_state(file: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, or None where nothing was written yet."""
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


@contextmanager
def pid_file(folder: Path, name: str) -> Iterator[None]:
    """Hold `folder/name.pid` while training, so that SIGSTOP and SIGCONT can be sent to it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.pid"
    file.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
