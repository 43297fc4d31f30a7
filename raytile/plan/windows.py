"""The windows of one step: the crops that go through the network, as a product of two axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.axis import Axis, Segment
from raytile.geometry.tiling import Patch, Piece, Tiling


@dataclass(frozen=True)
class Pieces:
    """Many pieces of windows: `box` [n, (y0, y1, x0, x1)] of `tile`, turned by `turn`, found `at` [n, (y, x)] in
    `window`."""

    window: NDArray[np.int64]
    tile: NDArray[np.int64]
    box: NDArray[np.int64]
    at: NDArray[np.int64]
    turn: NDArray[np.int64]


class Seen(Protocol):
    """A patch of cells: where each of its pieces lies on the canvas."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def tiles(self) -> Iterator[int]: ...
    def pieces(self) -> Iterator[Piece]: ...


class Windows(Protocol):
    """The windows of one step, numbered from 0; all `size` x `size` cells.

    Two patches belong to a window: what it *reads* (all of its cells) and what it *gives* (the canvas cells that it
    speaks about, each once). `compact_order`: in which order runs of them are dealt. `tiles`: those that each window
    reads, [windows, most of any]; where it reads fewer, one comes again. `local`: a window gives only cells of tiles
    that it reads."""

    @property
    def local(self) -> bool: ...
    @property
    def tiling(self) -> Tiling: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...
    def reads(self, window: int) -> Seen: ...
    def gives(self, window: int) -> Seen: ...
    @property
    def compact_order(self) -> tuple[int, ...]: ...
    @property
    def tiles(self) -> NDArray[np.int64]: ...
    def pieces(self, windows: NDArray[np.int64], given: bool) -> Pieces:
        """The pieces of many windows at once: of what they give, or of what they read."""
        ...


@dataclass(frozen=True)
class SomeWindows:
    """Of other windows those numbered `ids` (ascending), numbered anew."""

    of: Windows
    ids: tuple[int, ...]

    @property
    def local(self) -> bool:
        return self.of.local

    @property
    def tiling(self) -> Tiling:
        return self.of.tiling

    @property
    def size(self) -> int:
        return self.of.size

    def __len__(self) -> int:
        return len(self.ids)

    def reads(self, window: int) -> Seen:
        return self.of.reads(self.ids[window])

    def gives(self, window: int) -> Seen:
        return self.of.gives(self.ids[window])

    @cached_property
    def compact_order(self) -> tuple[int, ...]:
        number = {window: fresh for fresh, window in enumerate(self.ids)}
        return tuple(number[window] for window in self.of.compact_order if window in number)

    @cached_property
    def tiles(self) -> NDArray[np.int64]:
        return self.of.tiles[np.array(self.ids, dtype=np.int64)]

    def pieces(self, windows: NDArray[np.int64], given: bool) -> Pieces:
        ids = np.array(self.ids, dtype=np.int64)
        found = self.of.pieces(ids[windows], given)
        return replace(found, window=np.searchsorted(ids, found.window))


@dataclass(frozen=True)
class GridWindows:
    """Windows of `size` x `size` cells at origins `ys` x `xs`. A window's id is row-major: `iy * len(xs) + ix`.

    Two patches belong to a window: what it *reads* (all of its cells) and what it *gives* (each canvas cell once:
    less than it reads where a wrapped canvas is smaller than the window and it sees cells twice, and where `spans` says
    so: of each of `ys` and of `xs` the cells [start, stop) that it speaks of)."""

    tiling: Tiling
    size: int
    ys: tuple[int, ...]
    xs: tuple[int, ...]
    spans: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] | None = None

    local = True

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def reads(self, window: int) -> Patch:
        iy, ix = divmod(window, len(self.xs))
        return Patch(self.size, self.size, self._read_rows[iy], self._read_columns[ix], self.tiling.x.tiles)

    def gives(self, window: int) -> Patch:
        iy, ix = divmod(window, len(self.xs))
        return Patch(*self._extent, self._given_rows[iy], self._given_columns[ix], self.tiling.x.tiles)

    @cached_property
    def compact_order(self) -> tuple[int, ...]:
        """Window ids in the order in which runs of them are dealt, the same way as tiles are."""
        ny, nx = len(self.ys), len(self.xs)
        if self.tiling.x.cells >= self.tiling.y.cells:
            return tuple(iy * nx + ix for ix in range(nx) for iy in range(ny))
        return tuple(range(ny * nx))

    @cached_property
    def tiles(self) -> NDArray[np.int64]:
        """The tiles that each window reads, [windows, most of any]; where it reads fewer, one comes again."""
        rows, columns = _table(self._read_rows)[:, :, 0], _table(self._read_columns)[:, :, 0]
        ids = rows[:, None, :, None] * self.tiling.x.tiles + columns[None, :, None, :]
        return ids.reshape(len(self), -1)

    def pieces(self, windows: NDArray[np.int64], given: bool) -> Pieces:
        """The pieces of many windows at once: of what they give, or of what they read."""
        rows = self._given_rows if given else self._read_rows
        columns = self._given_columns if given else self._read_columns
        iy, ix = np.divmod(windows, len(self.xs))
        row, column = np.broadcast_arrays(_table(rows)[iy][:, :, None], _table(columns)[ix][:, None, :])
        row, column = row.reshape(-1, 4), column.reshape(-1, 4)
        window = np.repeat(windows, len(row) // max(1, len(windows)))
        there = (row[:, 1] < row[:, 2]) & (column[:, 1] < column[:, 2])
        window, row, column = window[there], row[there], column[there]
        return Pieces(
            window=window,
            tile=row[:, 0] * self.tiling.x.tiles + column[:, 0],
            box=np.stack((row[:, 1], row[:, 2], column[:, 1], column[:, 2]), axis=1),
            at=np.stack((row[:, 3], column[:, 3]), axis=1),
            turn=np.zeros(len(window), dtype=np.int64),
        )

    @cached_property
    def _extent(self) -> tuple[int, int]:
        return min(self.size, self.tiling.y.cells), min(self.size, self.tiling.x.cells)

    @cached_property
    def _read_rows(self) -> tuple[tuple[Segment, ...], ...]:
        return tuple(self.tiling.y.segments(o, self.size) for o in self.ys)

    @cached_property
    def _read_columns(self) -> tuple[tuple[Segment, ...], ...]:
        return tuple(self.tiling.x.segments(o, self.size) for o in self.xs)

    @cached_property
    def _given_rows(self) -> tuple[tuple[Segment, ...], ...]:
        return self._given(self.tiling.y, self.ys, 0)

    @cached_property
    def _given_columns(self) -> tuple[tuple[Segment, ...], ...]:
        return self._given(self.tiling.x, self.xs, 1)

    def _given(self, axis: Axis, origins: tuple[int, ...], number: int) -> tuple[tuple[Segment, ...], ...]:
        if self.spans is None:
            return tuple(axis.segments(o, self._extent[number]) for o in origins)
        return tuple(
            tuple(found._replace(at=found.at + start - o) for found in axis.segments(start, stop - start))
            for o, (start, stop) in zip(origins, self.spans[number], strict=True)
        )


@lru_cache(maxsize=16)
def _table(stretches: tuple[tuple[Segment, ...], ...]) -> NDArray[np.int64]:
    """[stretches, most segments of any, (tile, start, stop, at)]; where there are fewer, empty ones."""
    most = max(len(found) for found in stretches)
    return np.array([[*found, *((found[0].tile, 0, 0, 0),) * (most - len(found))] for found in stretches])
