"""A canvas at any of a ladder of reductions, finished or not: pixels where there are any, else what was promised.

Down to a cell's size a square is made from one tile of the picture. From a cell on up it is made from the preview, and
each larger reduction from four squares of the one before. Squares are kept: for good where nothing changes any more."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from raytile.canvas.areas import block_means
from raytile.canvas.canvas import Canvas
from raytile.errors import CanvasError
from raytile.geometry.box import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raytile.canvas.head import Head

    Pixels = NDArray[np.uint8]

NEUTRAL = 128
"""Where nothing is known yet."""
SIDE = 256
"""Cells along a square of the preview, about."""
HELD = 2**25
"""Bytes of squares that are kept, and one square more."""
FRESH, PATIENT = 1.0, 10.0
"""Seconds that a square which still changes is shown for, and so many times what it took to make."""
RIM = 2
"""Cells around a tile that its enlarged preview looks at."""


@dataclass(frozen=True)
class Sight:
    """What is known of a canvas at one moment: its head, and of each tile whether its pixels are there."""

    head: Head
    done: NDArray[np.bool_]

    @classmethod
    def of(cls, head: Head) -> Sight:
        done = np.zeros(head.tiles_total, dtype=bool)
        for first, last in head.tiles_done:
            done[first : last + 1] = True
        if head.state == "finished":
            done[:] = True
        return cls(head, done)

    @property
    def partial(self) -> bool:
        """Whether a part of the picture was there before."""
        return bool(self.head.request.repaint) or self.head.request.place is not None


@dataclass(frozen=True)
class Square:
    """Pixels (h, w, 3), and until when they may be shown; None: for good."""

    pixels: Pixels
    until: float | None


class Pyramid:
    """Squares of `canvas`, made when they are asked for. `clock` gives seconds that only go forward. Thread-safe."""

    def __init__(self, canvas: Canvas, clock: Callable[[], float], held: int = HELD) -> None:
        layout = canvas.layout
        self._canvas, self._layout, self._clock, self._most = canvas, layout, clock, held
        self._group = max(1, SIDE // layout.tile_cells)  # tiles along a square of the preview
        self._kept: OrderedDict[tuple[int, int, int], Square] = OrderedDict()
        self._bytes = 0
        self._lock, self._building = threading.Lock(), threading.RLock()
        fine = [1]
        while layout.factor % (2 * fine[-1]) == 0 and 2 * fine[-1] < layout.factor:
            fine.append(2 * fine[-1])
        coarse = [layout.factor]
        while max(layout.width, layout.height) > coarse[-1]:
            coarse.append(2 * coarse[-1])
        self.reductions: tuple[int, ...] = (*(fine if layout.factor > 1 else ()), *coarse)
        """Pixels along a side that become one, ascending."""

    def size(self, reduction: int) -> tuple[int, int]:
        """(height, width) at one of `reductions`."""
        return ceil(self._layout.height / reduction), ceil(self._layout.width / reduction)

    def read(self, sight: Sight, reduction: int, box: Box) -> Pixels:
        """Pixels (h, w, 3) of a box at one of `reductions`."""
        layout = self._layout
        fine = reduction < layout.factor
        side = layout.tile // reduction if fine else self._group * layout.tile_cells
        found = np.empty((box.height, box.width, 3), np.uint8)
        for row in range(box.y0 // side, -(-box.y1 // side)):
            for column in range(box.x0 // side, -(-box.x1 // side)):
                pixels = self._square(sight, reduction, row, column)
                y, x = row * side, column * side
                part = Box(y, y + pixels.shape[0], x, x + pixels.shape[1]).intersect(box)
                to, of = part.shift(-box.y0, -box.x0), part.shift(-y, -x)
                found[to.y0 : to.y1, to.x0 : to.x1] = pixels[of.y0 : of.y1, of.x0 : of.x1]
        return found

    # -- squares -------------------------------------------------------------------------------------------------

    def _square(self, sight: Sight, reduction: int, row: int, column: int) -> Pixels:
        key, final = (reduction, row, column), bool(self._tiles(sight, reduction, row, column).all())
        found = self._recall(key, final)
        if found is not None:
            return found
        if reduction <= self._layout.factor:
            return self._made(sight, key, final)
        with self._building:  # what many look at is made once
            found = self._recall(key, final)
            return self._made(sight, key, final) if found is None else found

    def _recall(self, key: tuple[int, int, int], final: bool) -> Pixels | None:
        """What is kept of a square; what was made before it was `final` is none any more."""
        with self._lock:
            square = self._kept.get(key)
            if square is None or (square.until is not None and (final or square.until < self._clock())):
                return None
            self._kept.move_to_end(key)
            return square.pixels

    def _made(self, sight: Sight, key: tuple[int, int, int], final: bool) -> Pixels:
        reduction, row, column = key
        start = self._clock()
        if reduction < self._layout.factor:
            pixels = self._of_tile(sight, row * self._layout.tile_columns + column, reduction)
        else:
            make = self._of_preview if reduction == self._layout.factor else self._of_four
            pixels = make(sight, reduction, row, column)
        now = self._clock()
        square = Square(pixels, None if final else now + max(FRESH, PATIENT * (now - start)))
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += pixels.nbytes - (0 if before is None else before.pixels.nbytes)
            self._kept[key] = square
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].pixels.nbytes
        return pixels

    def _tiles(self, sight: Sight, reduction: int, row: int, column: int) -> NDArray[np.bool_]:
        """Of the tiles below a square, whether each is done."""
        layout = self._layout
        side = 1 if reduction < layout.factor else self._group * (reduction // layout.factor)
        grid = sight.done.reshape(layout.tile_rows, layout.tile_columns)
        return grid[row * side : (row + 1) * side, column * side : (column + 1) * side]

    def _of_four(self, sight: Sight, reduction: int, row: int, column: int) -> Pixels:
        """From the squares of half the reduction."""
        half, side = reduction // 2, self._group * self._layout.tile_cells
        height, width = self.size(half)
        box = Box(2 * row * side, 2 * (row + 1) * side, 2 * column * side, 2 * (column + 1) * side)
        box = box.intersect(Box(0, height, 0, width))
        return _halved(self.read(sight, half, box))

    def _of_tile(self, sight: Sight, tile: int, reduction: int) -> Pixels:
        """A tile, finer than a cell."""
        box = self._layout.pixels(tile)
        if sight.done[tile]:
            return _reduced(self._canvas.read_image(box), reduction)
        before = self._before(sight, tile, reduction)
        if before is not None:
            return before
        factor, step = self._layout.factor, self._layout.factor // reduction
        rows, columns = self.size(factor)
        cells = Box(box.y0 // factor, -(-box.y1 // factor), box.x0 // factor, -(-box.x1 // factor))
        seen = Box(cells.y0 - RIM, cells.y1 + RIM, cells.x0 - RIM, cells.x1 + RIM).intersect(Box(0, rows, 0, columns))
        inner = cells.shift(-seen.y0, -seen.x0)
        size = cells.width * step, cells.height * step
        wide = _resized(self.read(sight, factor, seen), size, (inner.x0, inner.y0, inner.x1, inner.y1))
        return wide[: -(-box.height // reduction), : -(-box.width // reduction)]

    def _before(self, sight: Sight, tile: int, reduction: int) -> Pixels | None:
        """Where a part of the picture was there before: what was there, of a tile that shows nothing new yet."""
        if not sight.partial:
            return None
        box = self._layout.pixels(tile)
        if self._canvas.stored(tile):
            return _reduced(self._canvas.read_image(box), reduction)
        last, core = len(self._layout.levels), self._layout.cells(tile)
        shown = self._canvas.read_preview(last, core)
        if shown is not None and shown.any():
            return None
        return _reduced(self._canvas.read_source(box), reduction)

    def _of_preview(self, sight: Sight, reduction: int, row: int, column: int) -> Pixels:
        """A pixel a cell: what the finest level that is known promises, or what became of it."""
        layout, side = self._layout, self._group * self._layout.tile_cells
        height, width = self.size(reduction)
        box = Box(row * side, (row + 1) * side, column * side, (column + 1) * side)
        box = box.intersect(Box(0, height, 0, width))
        colours = self._shown(len(layout.levels), box)
        if colours[0].all():
            return _upright(colours)
        for tile in self._tiles_of(row, column):
            cells = layout.cells(tile).intersect(Box(0, height, 0, width))
            part = cells.shift(-box.y0, -box.x0)
            if colours[0, part.y0 : part.y1, part.x0 : part.x1].all():
                continue
            known = None
            if sight.done[tile]:
                known = _reduced(self._canvas.read_image(layout.pixels(tile)), reduction)
            elif sight.partial:
                known = self._before(sight, tile, reduction)
            if known is not None:
                values = known.transpose(2, 0, 1).clip(1)
                colours[:, part.y0 : part.y1, part.x0 : part.x1] = values
        for level in reversed(range(len(layout.levels))):
            if colours[0].all():
                break
            enlarged = self._enlarged(level, box)
            if enlarged is not None:
                colours = np.where(colours[:1] == 0, enlarged, colours)
        colours[:, colours[0] == 0] = NEUTRAL
        return _upright(colours)

    def _tiles_of(self, row: int, column: int) -> list[int]:
        """The tiles below a square of the preview."""
        layout, group = self._layout, self._group
        rows = range(row * group, min((row + 1) * group, layout.tile_rows))
        columns = range(column * group, min((column + 1) * group, layout.tile_columns))
        return [r * layout.tile_columns + c for r in rows for c in columns]

    def _shown(self, level: int, box: Box) -> Any:
        """The preview (3, h, w) of a box of a level's cells; zeros where it shows nothing, or cannot be read."""
        try:
            found = self._canvas.read_preview(level, box)
        except CanvasError:  # half of a chunk, after a loss of power
            found = None
        return np.zeros((3, box.height, box.width), np.uint8) if found is None else found

    def _enlarged(self, level: int, box: Box) -> Pixels | None:
        """What a coarser level shows of a box of the finest cells, (3, h, w); zeros where it shows nothing."""
        layout = self._layout
        rows, columns = layout.level_size(level)
        down, across = rows / layout.rows, columns / layout.columns
        y0, y1, x0, x1 = box.y0 * down, box.y1 * down, box.x0 * across, box.x1 * across
        seen = Box(int(y0) - RIM, ceil(y1) + RIM, int(x0) - RIM, ceil(x1) + RIM).intersect(Box(0, rows, 0, columns))
        shown = self._shown(level, seen)
        there = shown[0] > 0
        if not there.any():
            return None
        part = x0 - seen.x0, y0 - seen.y0, x1 - seen.x0, y1 - seen.y0
        shown[:, ~there] = NEUTRAL
        smooth = _resized(_upright(shown), (box.width, box.height), part).transpose(2, 0, 1).clip(1)
        if there.all():
            return smooth
        ys = np.minimum((y0 - seen.y0 + (np.arange(box.height) + 0.5) * down).astype(int), there.shape[0] - 1)
        xs = np.minimum((x0 - seen.x0 + (np.arange(box.width) + 0.5) * across).astype(int), there.shape[1] - 1)
        return np.where(there[ys[:, None], xs[None, :]], smooth, 0).astype(np.uint8)


def _upright(values: Any) -> Pixels:
    """(3, h, w) as (h, w, 3)."""
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _reduced(values: Any, k: int) -> Pixels:
    """The means of k x k blocks of (3, h, w), as (h, w, 3); blocks at the far edges of what is there."""
    if k == 1:
        return _upright(values)
    if values.shape[1] == 0 or values.shape[2] == 0:
        return np.zeros((-(-values.shape[1] // k), -(-values.shape[2] // k), 3), np.uint8)
    return _upright(np.rint(block_means(values, k) * 255).astype(np.uint8))


def _halved(pixels: Pixels) -> Pixels:
    """The means of 2 x 2 pixels (h, w, 3), of fewer at the far edges."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    sums = even[0::2] + even[1::2]
    sums = sums[:, 0::2] + sums[:, 1::2]
    return np.asarray((sums + 1 + (sums >> 2 & 1)) >> 2, dtype=np.uint8)  # halves to even


def _resized(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float]) -> Pixels:
    """A box (left, top, right, bottom) of pixels, at (width, height), smoothly; it looks beyond the box."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))
