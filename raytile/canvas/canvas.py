"""The canvas itself: tiles go in, pixels, digests and the head come out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raytile.canvas.digest import combine, digest
from raytile.canvas.disk import explained, sync_up
from raytile.canvas.head import Head
from raytile.canvas.headstore import LocalHeadStore
from raytile.canvas.layout import IMAGE, LATENTS, CanvasLayout, chunk_key, slices
from raytile.errors import CanvasError
from raytile.geometry.box import Box

if TYPE_CHECKING:
    import numpy as np
    import zarr

    Numbers = np.ndarray[Any, Any]
    ZarrArray = zarr.Array[Any]


class Canvas:
    """One canvas, by its path. Cheap to make, and pickles as path and layout: arrays open when used.

    Many processes may write tiles at once, each tile by one of them (a tile is one chunk of each array).
    The head is committed by the driver alone, through the object that `create` or `open`
    returned (see `raytile.canvas.store`).
    Every method raises `CanvasError`, with the path and the cause, when the disk does not do its part."""

    def __init__(self, path: Path | str, layout: CanvasLayout, held: tuple[Head, str] | None = None) -> None:
        self.path = Path(path)
        self.layout = layout
        self._held = held

    def __reduce__(self) -> tuple[type[Canvas], tuple[Path, CanvasLayout]]:
        return Canvas, (self.path, self.layout)

    def __repr__(self) -> str:
        return f"Canvas({str(self.path)!r}, {self.layout})"

    def head(self) -> Head:
        """The head as it stands on disk now."""
        return LocalHeadStore(self.path).read()[0]

    def commit(self, change: Callable[[Head], Head]) -> Head:
        """Change the head that this object last saw or wrote, and return the new one.

        Raises `HeadConflict` when anyone else has changed it since: this process owns the canvas no more."""
        if self._held is None:
            raise CanvasError(
                "only the driver commits the head: open the canvas instead of taking a worker's view of it"
            )
        before, tag = self._held
        head = change(before)
        self._held = head, LocalHeadStore(self.path).swap(tag, head)
        return head

    @cached_property
    def image(self) -> ZarrArray:
        """The picture, (3, height, width) uint8, read-only."""
        return open_array(self.path, IMAGE)

    @cached_property
    def latents(self) -> ZarrArray:
        """The final latents, (channels, rows, columns) float32, read-only."""
        return open_array(self.path, LATENTS)

    @cached_property
    def _writable(self) -> dict[str, ZarrArray]:
        return {name: open_array(self.path, name, "r+") for name in (IMAGE, LATENTS)}

    def write_image(self, tile: int, pixels: Numbers) -> str:
        """Store a tile's pixels, uint8 (3, h, w) of its pixel box, safely on disk; returns their digest.

        A tile that lies wholly outside the picture has an empty box and stores nothing."""
        return self._write(IMAGE, tile, self.layout.pixels(tile), pixels)

    def write_latents(self, tile: int, cells: Numbers) -> str:
        """Store a tile's final latents, float32 (channels, h, w) of its cell box, safely; returns the digest."""
        return self._write(LATENTS, tile, self.layout.cells(tile), cells)

    def _write(self, name: str, tile: int, box: Box, values: Numbers) -> str:
        dtype, channels = ("uint8", 3) if name == IMAGE else ("float32", self.layout.channels)
        shape = (channels, box.height, box.width)
        if values.shape != shape or values.dtype != dtype:
            raise CanvasError(
                f"{name} of tile {tile} must be {dtype} {shape}, not {values.dtype} {tuple(values.shape)}"
            )
        if box.area:
            with explained(f"write {name} of tile {tile} to {self.path}"):
                self._writable[name][slices(box)] = values
                sync_up(self._chunk(name, tile), self.path / name)
        return digest(values)

    def read_image(self, box: Box) -> Numbers:
        """The pixels of any box of the picture, uint8 (3, h, w); black where no tile has been written."""
        if not (0 <= box.y0 <= box.y1 <= self.layout.height and 0 <= box.x0 <= box.x1 <= self.layout.width):
            raise CanvasError(f"{box} does not lie in the picture of {self.layout.width}x{self.layout.height}")
        return _read(self.image, box)

    def stored(self, tile: int) -> bool:
        """Whether the pixels of this tile are on disk."""
        return not self.layout.pixels(tile).area or self._chunk(IMAGE, tile).is_file()

    def pixels_digest(self, tile: int) -> str:
        """The digest of a tile's pixels as they are on disk; `CanvasError` when they are not there."""
        return self._digest(IMAGE, tile, self.layout.pixels(tile))

    def latents_digest(self, tile: int) -> str:
        """The digest of a tile's final latents as they are on disk; `CanvasError` when they are not there."""
        return self._digest(LATENTS, tile, self.layout.cells(tile))

    def _digest(self, name: str, tile: int, box: Box) -> str:
        if box.area and not self._chunk(name, tile).is_file():
            raise CanvasError(f"{self.path} has no {name} of tile {tile}")
        return digest(_read(self.image if name == IMAGE else self.latents, box))

    def digests(self) -> tuple[str, str]:
        """SHA-256 of all final latents and of all pixels, read back from disk tile by tile."""
        tiles = range(self.layout.tiles)
        return combine(map(self.latents_digest, tiles)), combine(map(self.pixels_digest, tiles))

    def _chunk(self, name: str, tile: int) -> Path:
        return self.path / chunk_key(name, *self.layout.grid(tile))


def open_array(path: Path, name: str, mode: Literal["r", "r+"] = "r") -> ZarrArray:
    """Open one array of the canvas at `path`; `CanvasError` when it does not open."""
    import zarr
    from zarr.errors import BaseZarrError

    try:
        array = zarr.open_array(store=str(path), path=name, mode=mode)
    except (OSError, ValueError, KeyError, TypeError, BaseZarrError) as error:
        raise CanvasError(f"{path} is damaged: its array {name!r} does not open ({error})") from error
    # A chunk equal to the fill value must still be a file: a painted black tile is not an unpainted one.
    return array.with_config({"write_empty_chunks": True})


def _read(array: ZarrArray, box: Box) -> Numbers:
    import numpy as np

    try:
        return np.asarray(array[slices(box)])
    except (OSError, RuntimeError, ValueError) as error:  # unreadable, or a chunk that does not decode
        raise CanvasError(f"cannot read {array.store_path}: {error}") from error
