"""A canvas as an image of libvips that is read from top to bottom, a row of tiles at a time, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from raytile.canvas.canvas import Canvas
from raytile.canvas.rawtiff import RawTiff
from raytile.canvas.vips import libvips
from raytile.errors import CanvasError
from raytile.geometry.box import Box


@contextmanager
def streamed(
    canvas: Canvas, doing: str, box: Box | None = None, progress: Callable[[int, int], None] | None = None
) -> Iterator[Any]:
    """The picture, or a box of its pixels, as a sequential `pyvips.Image` (8-bit RGB), good inside the `with`.

    Holds one row of tiles in memory. `progress` is told how many rows of tiles are read, and of how many. Trouble with
    the canvas is raised as it came, libvips' own as `CanvasError`: cannot `doing`."""
    import numpy as np

    pyvips = libvips()

    layout = canvas.layout
    whole = box or Box(0, layout.height, 0, layout.width)
    total = -(-whole.height // layout.tile)
    trouble: list[Exception] = []

    def band(number: int) -> memoryview:
        y0 = whole.y0 + number * layout.tile
        rows = Box(y0, min(y0 + layout.tile, whole.y1), whole.x0, whole.x1)
        pixels = np.empty((rows.height, rows.width, 3), np.uint8)
        for x0 in range(rows.x0, rows.x1, layout.tile):  # tile by tile, so that the band is in memory once
            part = rows._replace(x0=x0, x1=min(x0 + layout.tile, rows.x1))
            pixels[:, part.x0 - rows.x0 : part.x1 - rows.x0] = canvas.read_image(part).transpose(1, 2, 0)
        if progress is not None:
            progress(number + 1, total)
        return pixels.reshape(-1).data

    tape = RawTiff(whole.width, whole.height, layout.tile, band)

    def read(length: int) -> bytes:
        try:
            return tape.read(length)
        except Exception as error:  # libvips takes no exceptions: end the tape here, and raise it below
            trouble.append(error)
            return b""

    source = pyvips.SourceCustom()
    source.on_read(read)
    source.on_seek(tape.seek)
    try:
        yield pyvips.Image.tiffload_source(source, access="sequential", fail_on="truncated")
    except pyvips.Error as error:
        if not trouble:
            raise CanvasError(f"cannot {doing}: {' '.join(str(error).split())}") from error
    if trouble:
        raise trouble[0]
