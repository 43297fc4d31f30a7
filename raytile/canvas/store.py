"""Canvases by path: `NAME.zarr`, a zarr v3 group of two chunked arrays with its head beside `zarr.json`.

A path is a local one, or s3://BUCKET/PREFIX/NAME.zarr."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from raytile.canvas import local, place
from raytile.canvas.arrays import GROUP, layout_of, open_array
from raytile.canvas.canvas import Canvas
from raytile.canvas.fill import Progress
from raytile.canvas.head import Head
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.inputs import Inputs, verify
from raytile.canvas.layout import IMAGE, LATENTS, SUFFIX, CanvasLayout
from raytile.canvas.place import bytes_at, is_remote, where
from raytile.errors import CanvasError

__all__ = ["check", "create", "exists", "is_remote", "open", "where"]


def check(
    path: Path | str,
    layout: CanvasLayout,
    overwrite: bool = False,
    host: str = "",
    clock: Callable[[], float] = time.time,
    inputs: Inputs | None = None,
) -> None:
    """Raise `CanvasError` when a canvas of this layout cannot be created there, `InvalidRequest` when its
    inputs cannot be taken in.

    Leaves nothing behind: on a disk it only looks, in a bucket it writes a small object and removes it. `host` is
    this machine's name, and `clock` says the seconds since 1970, to tell whether a canvas that says it is running
    has a live owner."""
    target = where(path)
    name = place.name(target)
    if not name.endswith(SUFFIX) or name == SUFFIX:
        raise CanvasError(f"a canvas is a directory whose name ends in {SUFFIX}: try {name or 'picture'}{SUFFIX}")
    if is_remote(target):
        from raytile.canvas import bucket

        bucket.check(target, overwrite, host, clock())
    else:
        local.check(Path(target), layout, overwrite, host, clock(), inputs)
    if inputs is not None:
        verify(inputs, target, layout)


def create(
    path: Path | str,
    layout: CanvasLayout,
    head: Head,
    overwrite: bool = False,
    clock: Callable[[], float] = time.time,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> Canvas:
    """Create an empty canvas, ready for `commit`; whenever the power goes, there is a whole canvas or none.

    With `inputs` it holds them from the beginning; `progress` is told how many of their chunks are copied, and of how
    many. Checks everything first (see `check`). With `overwrite` a canvas that stands there is replaced, unless its
    owner still lives; anything that is not a canvas stays."""
    target = where(path)
    check(target, layout, overwrite, head.owner.host, clock, inputs)
    promised = (head.request.width, head.request.height, head.tiles_total)
    if promised != (layout.width, layout.height, layout.tiles):
        raise CanvasError(f"the head of {target} and its layout disagree on the size of the picture")
    if is_remote(target):
        from raytile.canvas import bucket

        return bucket.create(target, layout, head, clock(), inputs, progress)
    return local.create(Path(target), layout, head, clock(), inputs, progress)


def exists(path: Path | str) -> bool:
    """Whether there is a canvas (whole or not) at `path`: something that has a head."""
    return bytes_at(where(path)).exists(HEAD)


def open(path: Path | str) -> Canvas:
    """Open the canvas at `path`, whatever its state; `CanvasError` says what is wrong if it does not open."""
    target = where(path)
    objects = bytes_at(target)
    if not objects.exists(HEAD):
        if is_remote(target) or not os.path.exists(target):
            raise CanvasError(f"there is no canvas at {target}")
        if not objects.exists(GROUP):
            raise CanvasError(f"{target} is not a raytile canvas: it has no {GROUP}")
    held = HeadStore(objects).read()
    group = objects.read(GROUP)
    layout = layout_of(
        open_array(objects, IMAGE), open_array(objects, LATENTS), None if group is None else group[0], target
    )
    head = held[0]
    asked, found = f"{head.request.width}x{head.request.height}", f"{layout.width}x{layout.height}"
    if asked != found:
        raise CanvasError(f"{target} is damaged: its head says {asked} pixels, its image has {found}")
    if head.tiles_total != layout.tiles:
        raise CanvasError(
            f"{target} is damaged: its head says {head.tiles_total} tiles, its arrays have {layout.tiles}"
        )
    return Canvas(target, layout, held)
