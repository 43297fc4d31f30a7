"""Making canvases on a local (or properly shared) disk: everything that can be wrong is looked for first; then the
canvas appears whole, by a rename."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from raytile.canvas.arrays import GROUP, make_arrays
from raytile.canvas.bytes import LocalBytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.disk import check_name, explained, readable, sync, sync_tree
from raytile.canvas.fill import Progress, fill
from raytile.canvas.head import Head
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.inputs import Inputs
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.owners import refuse_live
from raytile.errors import CanvasError

TEMPORARY = len("...new") + 64  # what a canvas's name gains while it is made: a token, at most


def check(
    place: Path, layout: CanvasLayout, overwrite: bool, host: str, now: float, inputs: Inputs | None = None
) -> None:
    """Raise `CanvasError` when a canvas of this layout cannot be created there; writes nothing."""
    regained = 0
    if os.path.lexists(place):
        if not overwrite:
            raise CanvasError(f"{place} exists: choose another name, or replace it with --overwrite")
        _replaceable(place, host, now)
        regained = sum(LocalBytes(place).sizes().values())
    base = place.parent
    while not os.path.lexists(base):
        base = base.parent
    if not base.is_dir():
        raise CanvasError(f"cannot create {place}: {base} is not a directory")
    if not os.access(base, os.W_OK | os.X_OK):
        raise CanvasError(f"cannot create {place}: {base} is not writable")
    check_name(place, base, TEMPORARY)
    with explained(f"ask how much of the disk at {base} is free"):
        free = shutil.disk_usage(base).free + regained
    needed = layout.worst_bytes + sum(spec.worst_bytes for spec in (inputs.arrays(layout) if inputs else ()))
    if needed > free:
        raise CanvasError(
            f"the canvas needs up to {readable(needed)} and {base} has {readable(free)} free:"
            " choose another disk or a smaller picture"
        )


def create(
    place: Path,
    layout: CanvasLayout,
    head: Head,
    now: float,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> Canvas:
    """Create a canvas, empty but for its inputs, in place of the one that may stand there.

    After a crash there is a whole one or none. One between the two renames of an overwrite leaves the old canvas whole
    beside, as `.NAME.zarr.TOKEN.old`."""
    fresh, old = (place.with_name(f".{place.name}.{head.owner.token}.{end}") for end in ("new", "old"))
    made: list[Path] = []
    try:
        with explained(f"create {place}"):
            _make_parents(place.parent, made)
            fresh.mkdir()
            make_arrays(str(fresh), layout, inputs.arrays(layout) if inputs else ())
            if inputs is not None:
                fill(LocalBytes(fresh), str(place), layout, inputs, progress=progress)
            tag = HeadStore(LocalBytes(fresh)).create(head)
            sync_tree(fresh)
            if os.path.lexists(place):
                _set_aside(place, old, head.owner.host, now)
            fresh.rename(place)
            sync(place.parent)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        named = not fresh.exists()
        with suppress(OSError):
            if old.exists() and not named:
                old.rename(place)
        shutil.rmtree(old if named else fresh, ignore_errors=True)
        with suppress(OSError):
            for folder in reversed(made):
                folder.rmdir()
        raise
    return Canvas(place, layout, (head, tag))


def _replaceable(place: Path, host: str, now: float) -> str:
    """The tag of the canvas at `place` if it may be replaced; raises `CanvasError` if not."""
    if place.is_symlink() or not ((place / GROUP).is_file() and (place / HEAD).is_file()):
        raise CanvasError(f"{place} is not a raytile canvas: --overwrite leaves it alone, remove it yourself")
    head, tag = HeadStore(LocalBytes(place)).read()
    refuse_live(head, str(place), host, now)
    return tag


def _set_aside(place: Path, aside: Path, host: str, now: float) -> None:
    """Move the canvas at `place` out of the way; `CanvasError` if it turns out to have changed meanwhile."""
    tag = _replaceable(place, host, now)
    place.rename(aside)
    if HeadStore(LocalBytes(aside)).read()[1] != tag:
        raise CanvasError(f"{place} was changed by another process just now: it stays")


def _make_parents(parent: Path, made: list[Path]) -> None:
    """Make the missing directories down to `parent`, noting in `made` each that was made."""
    missing = []
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        folder.mkdir()
        made.append(folder)
        sync(folder.parent)
