"""The canvas itself: tiles go in, pixels, digests, snapshots and the head come out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from raytile.canvas import snapshots
from raytile.canvas.arrays import open_array, read_box
from raytile.canvas.digest import combine, digest
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.headstore import HeadStore
from raytile.canvas.layout import IMAGE, LATENTS, CanvasLayout, chunk_key, slices
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
        return open_array(self._objects, IMAGE)

    @cached_property
    def latents(self) -> ZarrArray:
        """The final latents, (channels, rows, columns) float32, read-only."""
        return open_array(self._objects, LATENTS)

    @cached_property
    def _writable(self) -> dict[str, ZarrArray]:
        return {name: open_array(self._objects, name, "r+") for name in (IMAGE, LATENTS)}

    def write_image(self, tile: int, pixels: Numbers) -> str:
        """Store a tile's pixels, uint8 (3, h, w) of its pixel box, safely; returns their digest.

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
            array = self._writable[name]
            self._objects.run(
                f"write {name} of tile {tile} to {self.path}", lambda: array.__setitem__(slices(box), values)
            )
            self._objects.settle(self._chunk(name, tile))
        return digest(values)

    def read_image(self, box: Box) -> Numbers:
        """The pixels of any box of the picture, uint8 (3, h, w); black where no tile has been written."""
        if not (0 <= box.y0 <= box.y1 <= self.layout.height and 0 <= box.x0 <= box.x1 <= self.layout.width):
            raise CanvasError(f"{box} does not lie in the picture of {self.layout.width}x{self.layout.height}")
        return read_box(self._objects, self.image, box)

    def read_latents(self, box: Box) -> Numbers:
        """The final latents of any box of cells, float32 (channels, h, w); zero where no tile has been written."""
        if not (0 <= box.y0 <= box.y1 <= self.layout.rows and 0 <= box.x0 <= box.x1 <= self.layout.columns):
            raise CanvasError(f"{box} does not lie in the {self.layout.columns}x{self.layout.rows} cells")
        return read_box(self._objects, self.latents, box)

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
        return digest(read_box(self._objects, self.image if name == IMAGE else self.latents, box))

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
