"""A canvas as one picture file: streamed, a row of tiles at a time, whatever its size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytile.canvas.canvas import Canvas
from raytile.canvas.disk import check_name, explained, sync
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.rawtiff import RawTiff
from raytile.errors import CanvasError

JPEG_SIDE = 65_535
TEMPORARY = len("..4194304.new")  # what a picture's name gains while it is written: the pid, at most
# libvips' savers that write as they read. PNG filtered up at level 3: as small as level 6, in less time.
SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("pngsave", {"compression": 3, "filter": "up"}),
    ".jpg": ("jpegsave", {"Q": 92}),
    ".jpeg": ("jpegsave", {"Q": 92}),
    ".tif": ("tiffsave", {"compression": "deflate", "predictor": "horizontal", "tile": True, "bigtiff": True}),
}
SAVERS[".tiff"] = SAVERS[".tif"]


def check_output(file: Path | str, layout: CanvasLayout, overwrite: bool = False) -> None:
    """Raise `CanvasError` when a picture of this layout cannot be exported to `file`; writes nothing."""
    place = Path(file).absolute()
    if place.suffix.lower() not in SAVERS:
        raise CanvasError(f"cannot export to {place.name}: the name must end in one of {', '.join(SAVERS)}")
    if SAVERS[place.suffix.lower()][0] == "jpegsave" and max(layout.width, layout.height) > JPEG_SIDE:
        raise CanvasError(f"JPEG holds at most {JPEG_SIDE} pixels a side: export to .png or .tif")
    if os.path.lexists(place) and not (overwrite and place.is_file()):
        raise CanvasError(f"{place} exists: choose another name, or replace it with --overwrite")
    if not place.parent.is_dir():
        raise CanvasError(f"cannot export to {place}: there is no directory {place.parent}")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise CanvasError(f"cannot export to {place}: {place.parent} is not writable")
    check_name(place, place.parent, TEMPORARY)


def export_picture(
    canvas: Canvas,
    file: Path | str,
    *,
    overwrite: bool = False,
    partial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the picture to `file` (PNG, JPEG or TIFF by its ending) and return the file's path.

    Holds one row of tiles in memory. The file appears whole, by a rename, or not at all. An unfinished canvas is
    refused unless `partial`, which leaves black what is not painted yet. `progress` is told how many rows of tiles
    are read, and of how many. Raises `CanvasError`."""
    place = Path(file).absolute()
    check_output(place, canvas.layout, overwrite)
    if not partial:
        _whole(canvas)
    fresh = place.with_name(f".{place.name}.{os.getpid()}.new")
    try:
        _save(canvas, fresh, place.suffix.lower(), progress)
        with explained(f"export to {place}"):
            sync(fresh)
            fresh.replace(place)
            sync(place.parent)
    finally:
        fresh.unlink(missing_ok=True)
    return place


def _whole(canvas: Canvas) -> None:
    """Raise `CanvasError` unless every tile is painted and on disk."""
    head = canvas.head()
    if head.state != "finished" or head.done < head.tiles_total:
        raise CanvasError(
            f"{canvas.path} is {head.state} with {head.done} of {head.tiles_total} tiles painted:"
            " finish it with raytile resume, or export what is there with --partial"
        )
    for tile in range(canvas.layout.tiles):
        if not canvas.stored(tile):
            raise CanvasError(f"{canvas.path} is damaged: it has no image of tile {tile}")


def _save(canvas: Canvas, fresh: Path, ending: str, progress: Callable[[int, int], None] | None) -> None:
    import numpy as np
    import pyvips  # type: ignore[import-untyped]  # ships neither stubs nor a marker

    layout = canvas.layout
    total = -(-layout.height // layout.tile)
    trouble: list[Exception] = []

    def band(number: int) -> memoryview:
        box = layout.band(number)
        pixels = np.empty((box.height, box.width, 3), np.uint8)
        for x0 in range(0, box.width, layout.tile):  # tile by tile, so that the band is in memory once
            part = box._replace(x0=x0, x1=min(x0 + layout.tile, box.width))
            pixels[:, part.x0 : part.x1] = canvas.read_image(part).transpose(1, 2, 0)
        if progress is not None:
            progress(number + 1, total)
        return pixels.reshape(-1).data

    tape = RawTiff(layout.width, layout.height, layout.tile, band)

    def read(length: int) -> bytes:
        try:
            return tape.read(length)
        except Exception as error:  # libvips takes no exceptions: end the tape here, and raise it below
            trouble.append(error)
            return b""

    source = pyvips.SourceCustom()
    source.on_read(read)
    source.on_seek(tape.seek)
    saver, options = SAVERS[ending]
    try:
        picture = pyvips.Image.tiffload_source(source, access="sequential", fail_on="truncated")
        getattr(picture, saver)(str(fresh), **options)
    except pyvips.Error as error:
        if not trouble:
            cause = " ".join(str(error).split())
            raise CanvasError(f"cannot export to {fresh.with_name(fresh.name[1:])}: {cause}") from error
    if trouble:
        raise trouble[0]
