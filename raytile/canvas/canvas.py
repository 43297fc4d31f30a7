"""The canvas itself: tiles go in, pixels, digests, snapshots and the head come out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raytile.canvas import snapshots
from raytile.canvas.areas import Areas
from raytile.canvas.arrays import GROUP, open_array, read_box
from raytile.canvas.digest import combine, digest
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.headstore import HeadStore
from raytile.canvas.inputs import MASK, SOURCE_IMAGE, SOURCE_LATENTS
from raytile.canvas.layout import IMAGE, LATENTS, LEVEL, CanvasLayout, chunk_key, slices
from raytile.canvas.place import bytes_at, where
from raytile.errors import CanvasError
from raytile.geometry.box import Box

if TYPE_CHECKING:
    from raytile.canvas.arrays import Numbers, ZarrArray
    from raytile.canvas.bytes import Bytes
    from raytile.canvas.patience import Patience


class Canvas:
    """One canvas, by its path (local, or s3://). Cheap to make, and pickles as path and layout: it opens when used.

    Many processes may write tiles at once, each tile by one of them (a tile is one chunk of each array).
    The head is committed by the driver alone, through the object that `create`, `open` or `claim`
    returned (see `raytile.canvas.store`).
    Every method raises `CanvasError`, with the path and the cause, when the disk or the bucket does not do its part;
    a bucket that is away is asked again as long as `patience` says."""

    def __init__(
        self,
        path: Path | str,
        layout: CanvasLayout,
        held: tuple[Head, str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.path = where(path)
        self.layout = layout
        self._held = held
        self._patience = patience

    def __reduce__(self) -> tuple[type[Canvas], tuple[str, CanvasLayout]]:
        return Canvas, (self.path, self.layout)

    def __repr__(self) -> str:
        return f"Canvas({self.path!r}, {self.layout})"

    def with_patience(self, patience: Patience) -> Canvas:
        """The same canvas, with the same hold on its head, that waits longer or shorter for its store."""
        return Canvas(self.path, self.layout, self._held, patience)

    @cached_property
    def _objects(self) -> Bytes:
        return bytes_at(self.path, self._patience)

    def head(self) -> Head:
        """The head as it stands now."""
        return HeadStore(self._objects).read()[0]

    def commit(self, change: Callable[[Head], Head]) -> Head:
        """Change the head, as its owner, and return the new one.

        When anyone has changed it since this object last saw it, `change` is applied to the head as it is now, so it
        should say what it wants and not count. Raises `HeadConflict` when that head has another owner: this process
        owns the canvas no more."""
        if self._held is None:
            raise CanvasError(
                "only the driver commits the head: open the canvas instead of taking a worker's view of it"
            )
        heads = HeadStore(self._objects)
        while True:
            before, tag = self._held
            head = change(before)
            try:
                self._held = head, heads.swap(tag, head)
            except HeadConflict:
                self._held = self._still_ours(before)
            else:
                return head

    def _still_ours(self, before: Head) -> tuple[Head, str]:
        """The head as it stands now, and its tag; `HeadConflict` unless its owner is that of `before`."""
        found = HeadStore(self._objects).find()
        if found is None:
            raise HeadConflict(f"{self.path} was removed or replaced: this process renders it no more")
        owner = found[0].owner
        if owner.token != before.owner.token:
            raise HeadConflict(
                f"{self.path} now belongs to process {owner.pid} on {owner.host}: this process renders it no more"
            )
        return found

    @cached_property
    def image(self) -> ZarrArray:
        """The picture, (3, height, width) uint8, read-only."""
        return self._array(IMAGE)

    @cached_property
    def latents(self) -> ZarrArray:
        """The final latents, (channels, rows, columns) float32, read-only."""
        return self._array(LATENTS)

    @cached_property
    def _opened(self) -> dict[tuple[str, Literal["r", "r+"]], ZarrArray]:
        return {}

    def _array(self, name: str, mode: Literal["r", "r+"] = "r") -> ZarrArray:
        if (name, mode) not in self._opened:
            self._opened[name, mode] = open_array(self._objects, name, mode)
        return self._opened[name, mode]

    def write_image(self, tile: int, pixels: Numbers) -> str:
        """Store a tile's pixels, uint8 (3, h, w) of its pixel box, safely; returns their digest.

        A tile that lies wholly outside the picture has an empty box and stores nothing."""
        return self._write(IMAGE, tile, self.layout.pixels(tile), self.layout.grid(tile), pixels)

    def write_latents(self, tile: int, cells: Numbers) -> str:
        """Store a tile's final latents, float32 (channels, h, w) of its cell box, safely; returns the digest."""
        return self._write(LATENTS, tile, self.layout.cells(tile), self.layout.grid(tile), cells)

    def write_level(self, level: int, tile: int, cells: Numbers) -> str:
        """Store the final latents of a tile of a coarser level, float32 (channels, h, w), safely; returns their
        digest."""
        box, side = self.layout.level_cells(level, tile), self.layout.tile_cells
        return self._write(LEVEL.format(level), tile, box, (box.y0 // side, box.x0 // side), cells)

    def write_preview(self, level: int, tile: int, colours: Numbers) -> None:
        """Show what a tile of `level` (the last is the picture's own) will be, uint8 (3, h, w), a pixel a cell.

        Values from 1 to 255: zeros stand where nothing was shown yet. Nothing is lost if the power goes, so it is not
        made safe; a canvas that was made without previews takes none."""
        last = level == len(self.layout.levels)
        box = self.layout.cells(tile) if last else self.layout.level_cells(level, tile)
        if colours.shape != (3, box.height, box.width) or colours.dtype != "uint8":
            raise CanvasError(f"preview of tile {tile} must be uint8 (3, {box.height}, {box.width})")
        name = self.layout.preview_name(level)
        if self._shows(name):
            array = self._array(name, "r+")
            self._objects.run(
                f"write {name} of tile {tile} to {self.path}", lambda: array.__setitem__(slices(box), colours)
            )

    def read_preview(self, level: int, box: Box) -> Numbers | None:
        """What was shown of any box of cells of a level, uint8 (3, h, w), zero where nothing was shown yet; None where
        the canvas has no previews."""
        name = self.layout.preview_name(level)
        return self._read(name, box) if self._shows(name) else None

    def _shows(self, name: str) -> bool:
        """Whether there is an array of this name: canvases that were made before there were previews have none."""
        if name not in self._there:
            self._there[name] = self._objects.exists(f"{name}/{GROUP}")
        return self._there[name]

    @cached_property
    def _there(self) -> dict[str, bool]:
        return {}

    def _write(self, name: str, tile: int, box: Box, grid: tuple[int, int], values: Numbers) -> str:
        dtype, channels = ("uint8", 3) if name == IMAGE else ("float32", self.layout.channels)
        shape = (channels, box.height, box.width)
        if values.shape != shape or values.dtype != dtype:
            raise CanvasError(
                f"{name} of tile {tile} must be {dtype} {shape}, not {values.dtype} {tuple(values.shape)}"
            )
        if box.area:
            array = self._array(name, "r+")
            self._objects.run(
                f"write {name} of tile {tile} to {self.path}", lambda: array.__setitem__(slices(box), values)
            )
            self._objects.settle(chunk_key(name, *grid))
        return digest(values)

    def read_image(self, box: Box) -> Numbers:
        """The pixels of any box of the picture, uint8 (3, h, w); black where no tile has been written."""
        return self._read(IMAGE, box)

    def read_latents(self, box: Box) -> Numbers:
        """The final latents of any box of cells, float32 (channels, h, w); zero where no tile has been written."""
        return self._read(LATENTS, box)

    def read_level(self, level: int, box: Box) -> Numbers:
        """The final latents of a coarser level, float32 (channels, h, w); zero where no tile has been written."""
        self.layout.level_size(level)
        return self._read(LEVEL.format(level), box)

    def read_source(self, box: Box) -> Numbers:
        """The source picture, uint8 (3, h, w), in pixels of its own size; black where none was taken in."""
        return self._read(SOURCE_IMAGE, box)

    def read_source_latents(self, box: Box) -> Numbers:
        """The latents that are painted on, float32 (channels, h, w); zero where there are none."""
        return self._read(SOURCE_LATENTS, box)

    def read_mask(self, number: int, box: Box) -> Numbers:
        """A mask, uint8 (1, h, w): 255 is inside (see `raytile.canvas.inputs.masks_of`)."""
        return self._read(MASK.format(number), box)

    def area(self, name: str, box: Box, k: int) -> Numbers:
        """Means of an input over blocks of k x k pixels, `box` in blocks: float32 (channels, h, w) from 0 to 1.

        `name`: "source_image", "mask_0", "control". A block at the picture's edge is the mean of what is inside, one
        outside is 0. A block has the same mean in every box; those read last are kept."""
        if k < 1:
            raise CanvasError(f"blocks of {name} must be at least 1 pixel a side (got {k})")
        array = self._array(name)
        shape = array.shape[0], array.shape[1], array.shape[2]
        return self._areas.mean(name, shape, box, k, lambda part: self._read(name, part))

    @cached_property
    def _areas(self) -> Areas:
        return Areas(self.layout.tile)

    def _read(self, name: str, box: Box) -> Numbers:
        array = self._array(name)
        _, height, width = array.shape
        if not (0 <= box.y0 <= box.y1 <= height and 0 <= box.x0 <= box.x1 <= width):
            raise CanvasError(f"{box} does not lie in {name} of {width}x{height}")
        return read_box(self._objects, array, box)

    def stored(self, tile: int, name: str = IMAGE) -> bool:
        """Whether the pixels of this tile (or its latents, `name="latents"`) are in the canvas."""
        box = self.layout.pixels(tile) if name == IMAGE else self.layout.cells(tile)
        return not box.area or self._objects.exists(self._chunk(name, tile))

    def pixels_digest(self, tile: int) -> str:
        """The digest of a tile's pixels as they are stored; `CanvasError` when they are not there."""
        return self._digest(IMAGE, tile, self.layout.pixels(tile))

    def latents_digest(self, tile: int) -> str:
        """The digest of a tile's final latents as they are stored; `CanvasError` when they are not there."""
        return self._digest(LATENTS, tile, self.layout.cells(tile))

    def _digest(self, name: str, tile: int, box: Box) -> str:
        if not self.stored(tile, name):
            raise CanvasError(f"{self.path} has no {name} of tile {tile}")
        return digest(self._read(name, box))

    def digests(self) -> tuple[str, str]:
        """SHA-256 of all final latents and of all pixels, read back tile by tile."""
        tiles = range(self.layout.tiles)
        return combine(map(self.latents_digest, tiles)), combine(map(self.pixels_digest, tiles))

    def write_snapshot(self, phase: int, tile: int, values: Numbers) -> int:
        """Store a tile's latents and sampler memory, float32 (n, channels, h, w), safely; returns the bytes stored."""
        return snapshots.write(self._objects, phase, tile, values)

    def read_snapshot(self, phase: int, tile: int) -> Numbers:
        """What `write_snapshot` stored; `CanvasError` when it is absent or damaged."""
        return snapshots.read(self._objects, phase, tile)

    def drop_snapshots(self, keep: Collection[int] = ()) -> None:
        """Remove the snapshots of all phases but these, and but those newer than the newest of these.

        As the owner only: raises `HeadConflict` when the canvas has another by now."""
        if self._held is not None:
            self._still_ours(self._held[0])
        snapshots.drop(self._objects, keep)

    def bytes_stored(self) -> int:
        """Bytes of everything that the canvas keeps, on disk or in its bucket."""
        return sum(self._objects.sizes().values())

    def _chunk(self, name: str, tile: int) -> str:
        return chunk_key(name, *self.layout.grid(tile))
