"""Canvases on disk: `NAME.zarr`, a zarr v3 group of two chunked arrays with its head beside `zarr.json`.

Creating one looks first for everything that can be wrong; then the canvas appears whole, by a rename."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from raytile.canvas.canvas import Canvas, open_array
from raytile.canvas.disk import check_name, explained, readable, size, sync, sync_tree
from raytile.canvas.head import Head
from raytile.canvas.headstore import HEAD, LocalHeadStore
from raytile.canvas.layout import DIMENSIONS, IMAGE, LATENTS, SUFFIX, CanvasLayout
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from raytile.canvas.canvas import ZarrArray

GROUP = "zarr.json"
TEMPORARY = len("...new") + 64  # what a canvas's name gains while it is made: a token, at most


def check(path: Path | str, layout: CanvasLayout, overwrite: bool = False, host: str = "") -> None:
    """Raise `CanvasError` when a canvas of this layout cannot be created there; writes nothing.

    `host` is this machine's name, to tell whether a canvas that says it is running has a live owner here."""
    place = Path(path).absolute()
    if place.suffix != SUFFIX or not place.stem:
        raise CanvasError(f"a canvas is a directory whose name ends in {SUFFIX}: try {place.name or 'picture'}{SUFFIX}")
    regained = 0
    if os.path.lexists(place):
        if not overwrite:
            raise CanvasError(f"{place} exists: choose another name, or replace it with --overwrite")
        _replaceable(place, host)
        regained = size(place)
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
    if layout.worst_bytes > free:
        raise CanvasError(
            f"the canvas needs up to {readable(layout.worst_bytes)} and {base} has {readable(free)} free:"
            " choose another disk or a smaller picture"
        )


def create(path: Path | str, layout: CanvasLayout, head: Head, overwrite: bool = False) -> Canvas:
    """Create an empty canvas, ready for `commit`; after a crash there is a whole canvas or none.

    Checks everything first (see `check`). With `overwrite` a canvas that stands there is replaced, unless its
    owner still lives on this host; anything that is not a canvas stays. A crash between the two renames of an
    overwrite leaves the old canvas whole beside, as `.NAME.zarr.TOKEN.old`."""
    place = Path(path).absolute()
    check(place, layout, overwrite, head.owner.host)
    promised = (head.request.width, head.request.height, head.tiles_total)
    if promised != (layout.width, layout.height, layout.tiles):
        raise CanvasError(f"the head of {place} and its layout disagree on the size of the picture")
    fresh, old = (place.with_name(f".{place.name}.{head.owner.token}.{end}") for end in ("new", "old"))
    made: list[Path] = []
    try:
        with explained(f"create {place}"):
            _make_parents(place.parent, made)
            fresh.mkdir()
            _make_arrays(fresh, layout)
            tag = LocalHeadStore(fresh).create(head)
            sync_tree(fresh)
            if os.path.lexists(place):
                _set_aside(place, old, head.owner.host)
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


def _make_arrays(path: Path, layout: CanvasLayout) -> None:
    """Write the zarr metadata of an empty canvas into the directory `path`."""
    import zarr
    from zarr.codecs import ZstdCodec

    group = zarr.create_group(store=str(path), zarr_format=3)
    for name, shape, chunks, dtype in (
        (IMAGE, layout.image_shape, layout.image_chunks, "uint8"),
        (LATENTS, layout.latents_shape, layout.latents_chunks, "float32"),
    ):
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=DIMENSIONS,
        )


def open(path: Path | str) -> Canvas:
    """Open the canvas at `path`, whatever its state; `CanvasError` says what is wrong if it does not open."""
    place = Path(path).absolute()
    if not place.exists():
        raise CanvasError(f"there is no canvas at {place}")
    if not (place / GROUP).is_file():
        raise CanvasError(f"{place} is not a raytile canvas: it has no {GROUP}")
    held = LocalHeadStore(place).read()
    layout = _layout(open_array(place, IMAGE), open_array(place, LATENTS), place)
    head = held[0]
    asked, found = f"{head.request.width}x{head.request.height}", f"{layout.width}x{layout.height}"
    if asked != found:
        raise CanvasError(f"{place} is damaged: its head says {asked} pixels, its image has {found}")
    if head.tiles_total != layout.tiles:
        raise CanvasError(f"{place} is damaged: its head says {head.tiles_total} tiles, its arrays have {layout.tiles}")
    return Canvas(place, layout, held)


def _layout(image: ZarrArray, latents: ZarrArray, path: Path) -> CanvasLayout:
    """The layout that these two arrays have; `CanvasError` when they are not those of a canvas."""
    damaged = CanvasError(f"{path} is damaged: its arrays are not those of a raytile canvas")
    if len(image.shape) != 3 or len(latents.shape) != 3 or image.chunks[1] % latents.chunks[1]:
        raise damaged
    layout = CanvasLayout(
        width=image.shape[2],
        height=image.shape[1],
        channels=latents.shape[0],
        rows=latents.shape[1],
        columns=latents.shape[2],
        tile_cells=latents.chunks[1],
        factor=image.chunks[1] // latents.chunks[1],
    )
    found: tuple[object, ...] = (image.shape, image.chunks, str(image.dtype))
    found += (latents.shape, latents.chunks, str(latents.dtype))
    expected: tuple[object, ...] = (layout.image_shape, layout.image_chunks, "uint8")
    expected += (layout.latents_shape, layout.latents_chunks, "float32")
    if found != expected:
        raise damaged
    return layout


def _replaceable(place: Path, host: str) -> str:
    """The tag of the canvas at `place` if it may be replaced; raises `CanvasError` if not."""
    if place.is_symlink() or not ((place / GROUP).is_file() and (place / HEAD).is_file()):
        raise CanvasError(f"{place} is not a raytile canvas: --overwrite leaves it alone, remove it yourself")
    head, tag = LocalHeadStore(place).read()
    if head.state == "running" and head.owner.host == host and _alive(head.owner.pid):
        raise CanvasError(
            f"{place} is being rendered by process {head.owner.pid}: stop that first"
            " (if that process is another program by now, delete the directory)"
        )
    return tag


def _set_aside(place: Path, aside: Path, host: str) -> None:
    """Move the canvas at `place` out of the way; `CanvasError` if it turns out to have changed meanwhile."""
    tag = _replaceable(place, host)
    place.rename(aside)
    if LocalHeadStore(aside).read()[1] != tag:
        raise CanvasError(f"{place} was changed by another process just now: it stays")


def _alive(pid: int) -> bool:
    """Whether another process of this id runs here.

    Our own id is that of a dead owner: containers give each of their runs the same one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
