"""The tiling of a canvas: a grid of square tiles, and patches (any rectangle one wants to read) cut by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from raytile.geometry.axis import Axis, Segment
from raytile.geometry.box import Box


class Piece(NamedTuple):
    """The part of a patch that lies in one tile: `box` in canvas cells, found at (`y`, `x`) inside the patch, turned by
    `turn` (see `raytile.geometry.turn`)."""

    tile: int
    box: Box
    y: int
    x: int
    turn: int = 0


@dataclass(frozen=True)
class Patch:
    """A rectangle of `height` x `width` cells that may run across wrapped sides, cut by the tiles it touches."""

    height: int
    width: int
    rows: tuple[Segment, ...]
    columns: tuple[Segment, ...]
    tiles_x: int

    def tiles(self) -> Iterator[int]:
        """The tiles it touches; one may come twice."""
        return (row.tile * self.tiles_x + column.tile for row in self.rows for column in self.columns)

    def pieces(self) -> Iterator[Piece]:
        for row in self.rows:
            for column in self.columns:
                yield Piece(
                    row.tile * self.tiles_x + column.tile,
                    Box(row.start, row.stop, column.start, column.stop),
                    row.at,
                    column.at,
                )


@dataclass(frozen=True)
class Tiling:
    """A canvas of y.cells x x.cells latent cells in tiles; tile ids are row-major. Every cell is in one core."""

    y: Axis
    x: Axis

    @property
    def count(self) -> int:
        return self.y.tiles * self.x.tiles

    def core(self, tile: int) -> Box:
        """The cells that `tile` owns."""
        row, column = divmod(tile, self.x.tiles)
        return Box(*self.y.core(row), *self.x.core(column))

    def patch(self, origin_y: int, origin_x: int, height: int, width: int) -> Patch:
        return Patch(height, width, self.y.segments(origin_y, height), self.x.segments(origin_x, width), self.x.tiles)

    def around(self, tile: int, halo: int) -> tuple[Patch, int, int]:
        """`tile` with `halo` cells around it (none beyond bounded sides), and where its core lies in that."""
        core = self.core(tile)
        oy, height = self.y.around(core.y0, core.y1, halo)
        ox, width = self.x.around(core.x0, core.x1, halo)
        return self.patch(oy, ox, height, width), core.y0 - oy, core.x0 - ox

    @cached_property
    def compact_order(self) -> tuple[int, ...]:
        """Tile ids in the order in which runs of them are dealt: along the longer side, so that cuts are short."""
        if self.x.cells >= self.y.cells:
            return tuple(r * self.x.tiles + c for c in range(self.x.tiles) for r in range(self.y.tiles))
        return tuple(range(self.count))
