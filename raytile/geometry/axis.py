"""One axis of a canvas: its length in cells, whether its ends meet, and the tiles along it.

Everything two-dimensional is a product of two axes, so this is where windows and tiles meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """Cells `[start, stop)` of one tile, found `at` cells into the stretch that was asked for."""

    tile: int
    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class Axis:
    """`cells` cells in tiles of `tile` (the last may be shorter); `wrap` joins the last cell to the first."""

    cells: int
    tile: int
    wrap: bool

    @property
    def tiles(self) -> int:
        return -(-self.cells // self.tile)

    def core(self, tile: int) -> tuple[int, int]:
        """The cells `[start, stop)` that tile number `tile` owns."""
        return tile * self.tile, min((tile + 1) * self.tile, self.cells)

    def segments(self, origin: int, length: int) -> tuple[Segment, ...]:
        """The stretch `[origin, origin + length)` cut by tiles, in order.

        On a wrapped axis the stretch runs on past the end and may be longer than the axis (cells then come again);
        on a bounded one it must lie inside.

        >>> [tuple(segment) for segment in Axis(cells=10, tile=4, wrap=True).segments(7, 5)]
        [(1, 7, 8, 0), (2, 8, 10, 1), (0, 0, 2, 3)]
        """
        if not self.wrap and (origin < 0 or origin + length > self.cells):
            raise ValueError(f"stretch {origin}+{length} leaves a bounded axis of {self.cells} cells")
        found: list[Segment] = []
        at = 0
        while at < length:
            start = (origin + at) % self.cells
            tile = start // self.tile
            stop = min(self.core(tile)[1], start + length - at)
            found.append(Segment(tile, start, stop, at))
            at += stop - start
        return tuple(found)

    def around(self, start: int, stop: int, halo: int) -> tuple[int, int]:
        """`[start, stop)` with `halo` cells on each side, as (origin, length): cut off at bounded ends."""
        if self.wrap:
            return start - halo, stop - start + 2 * halo
        first, last = max(0, start - halo), min(self.cells, stop + halo)
        return first, last - first


def shifted_origins(axis: Axis, window: int, offset: int) -> tuple[int, ...]:
    """Origins of windows that stand side by side, the grid moved by `offset` cells in `[0, window)`.

    On a wrapped axis: as few as cover it, the last running past the first where they do not divide it. On a bounded
    axis the windows that would stick out slide inward, and those that then coincide are one. Ascending.

    >>> shifted_origins(Axis(64, 32, wrap=True), 32, 8)
    (8, 40)
    >>> shifted_origins(Axis(64, 32, wrap=False), 32, 8)
    (0, 8, 32)
    """
    if axis.wrap:
        count = -(-axis.cells // window)
        return tuple(sorted((offset + window * k) % axis.cells for k in range(count)))
    last = axis.cells - window
    return tuple(sorted({min(max(o, 0), last) for o in range(offset - window, axis.cells, window) if o > -window}))


def shifted_spans(axis: Axis, window: int, offset: int) -> tuple[tuple[int, int], ...]:
    """What each of `shifted_origins` speaks of: of a wrapped axis all that it sees; of a bounded one the cells [start,
    stop) between two lines of the moving grid. So no line between two windows stays where it is from step to step.

    >>> shifted_spans(Axis(64, 32, wrap=False), 32, 8)
    ((0, 8), (8, 40), (40, 64))
    """
    if axis.wrap:
        return tuple((o, o + min(window, axis.cells)) for o in shifted_origins(axis, window, offset))
    last, spans = axis.cells - window, dict[int, tuple[int, int]]()
    for o in range(offset - window, axis.cells, window):
        if o > -window:
            at, start, stop = min(max(o, 0), last), max(o, 0), min(o + window, axis.cells)
            spans[at] = (min(start, spans[at][0]), stop) if at in spans else (start, stop)
    return tuple(spans[at] for at in sorted(spans))


def strided_origins(axis: Axis, window: int, stride: int) -> tuple[int, ...]:
    """Origins of windows `stride` apart; on a bounded axis the last is moved back to end with the canvas.

    >>> strided_origins(Axis(70, 32, wrap=False), 32, 16)
    (0, 16, 32, 38)
    >>> strided_origins(Axis(64, 32, wrap=True), 32, 16)
    (0, 16, 32, 48)
    """
    if axis.wrap:
        return tuple(range(0, axis.cells, stride))
    last = axis.cells - window
    return (*range(0, last, stride), last)
