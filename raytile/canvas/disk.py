"""Making files outlive a power cut: safe is a file that is synced, as is each directory that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytile.errors import CanvasError


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn an `OSError` (disk full, no permission) into one line: what could not be done and why."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CanvasError(f"cannot {doing}: {error.strerror or error}{where}") from error


def check_name(place: Path, base: Path, extra: int) -> None:
    """Raise `CanvasError` when the name of `place`, longer by `extra` bytes while it is made, is too long for the disk.

    `base` is the directory it comes to lie in, or the nearest above that exists."""
    with explained(f"ask how long names at {base} may be"):
        most = os.pathconf(base, "PC_NAME_MAX") - extra
    taken = len(os.fsencode(place.name))
    if taken > most:
        shown = f"{place.name[:20]}...{place.suffix}"
        raise CanvasError(f"the name {shown} has {taken} bytes, at most {most} fit here: choose a shorter one")


def sync(path: Path) -> None:
    """Flush one file or directory to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush every file and directory below `root`, leaves first, and `root` itself."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def sync_up(path: Path, root: Path) -> None:
    """Flush a file and every directory from it up to `root`."""
    sync(path)
    while path != root:
        path = path.parent
        sync(path)


def replace(file: Path, data: bytes, temporary: str = "") -> None:
    """Put `data` in place of `file`: readers see the old bytes or the new ones, also after a power cut.

    `temporary` names the file beside it that is written first, `FILE.new` if empty; the caller sees to it that no one
    else writes that one at the same time."""
    fresh = file.with_name(temporary or file.name + ".new")
    with fresh.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    sync(file.parent)


def readable(count: int) -> str:
    """A size for people: 1.5 GB."""
    value, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
