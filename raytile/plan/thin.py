"""Thinned-out windows: every s-th cell in both directions, so that one window sees far; and who tells whom what of it.

At a level s times as large as the coarsest there are s x s grids of every s-th cell, each as large as the coarsest
level; windows stand on each of them. A step takes a second exchange then: all owners send their cells, filtered, to
all who predict such windows, with mean and variance of each of their tiles; what these predict goes to the holders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.axis import Axis, shifted_origins
from raytile.geometry.tiling import Tiling
from raytile.plan.route import Holdings, Partition

Ints = NDArray[np.int64]
STATS = 4
"""Numbers a tile that go with the cells: mean and variance, of its latents and of these filtered."""


class Comb(NamedTuple):
    """Every s-th cell of some of a tile: the first is (y, x) of the canvas, `ny` x `nx` of them, found at (`down`,
    `right`) of the window."""

    tile: int
    y: int
    ny: int
    x: int
    nx: int
    down: int
    right: int


@dataclass(frozen=True)
class Combs:
    """Many combs: [n] `window` and [n, 7] `comb`, in the order of `Comb`."""

    window: Ints
    comb: Ints

    def of(self, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, Comb]]:
        for window, comb in zip(self.window[chosen].tolist(), self.comb[chosen].tolist(), strict=True):
            yield window, Comb(*comb)


@dataclass(frozen=True)
class Thinned:
    """The thinned-out windows of one step: `stride` is s, `ys` and `xs` where windows stand on each grid."""

    tiling: Tiling
    size: int
    stride: int
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    def __len__(self) -> int:
        return self.stride**2 * len(self.ys) * len(self.xs)

    def combs(self, given: bool) -> Combs:
        """What all windows read, or give: each cell once, though beyond a bounded side of a grid that is one cell
        shorter than others the last cell is read again."""
        rows, columns = (
            _teeth(self.tiling.y, self.stride, self.ys, self.size, given),
            _teeth(self.tiling.x, self.stride, self.xs, self.size, given),
        )
        down, right = np.meshgrid(np.arange(len(rows)), np.arange(len(columns)), indexing="ij")
        y, x = rows[down.ravel()], columns[right.ravel()]
        grid = y[:, 0] * self.stride + x[:, 0]
        window = (grid * len(self.ys) + y[:, 1]) * len(self.xs) + x[:, 1]
        tile = y[:, 2] * self.tiling.x.tiles + x[:, 2]
        comb = np.stack((tile, y[:, 3], y[:, 4], x[:, 3], x[:, 4], y[:, 5], x[:, 5]), axis=1)
        order = np.lexsort((comb[:, 6], comb[:, 5], window))
        return Combs(window[order], comb[order])


def thinned(tiling: Tiling, size: int, stride: int, offset: tuple[int, int]) -> Thinned:
    """The windows of a step, side by side on each grid, moved by `offset` cells of it."""
    ys, xs = (
        shifted_origins(_thin(axis, stride), size, moved)
        for axis, moved in zip((tiling.y, tiling.x), offset, strict=True)
    )
    return Thinned(tiling, size, stride, ys, xs)


def _thin(axis: Axis, stride: int) -> Axis:
    """The axis of the longest grid; it wraps where all grids do alike."""
    cells = -(-axis.cells // stride)
    return Axis(cells, cells, axis.wrap and axis.cells % stride == 0)


@lru_cache(maxsize=64)
def _teeth(axis: Axis, stride: int, origins: tuple[int, ...], size: int, given: bool) -> Ints:
    """[n, (grid, number of the origin, tile, first cell, cells, at)]: stretches of every `stride`-th cell in a tile."""
    thin, found = _thin(axis, stride), []
    for grid in range(stride):
        there = len(range(grid, axis.cells, stride))
        for number, origin in enumerate(origins):
            length = min(size, thin.cells) if given else size
            places = np.arange(origin, origin + length)
            places = places % thin.cells if thin.wrap else places
            cells = grid + stride * np.minimum(places, there - 1)
            keep = places < there if given else np.ones(length, dtype=bool)
            at = np.flatnonzero(keep)
            cells = cells[keep]
            if not len(cells):
                continue
            cuts = np.flatnonzero((np.diff(cells) != stride) | (np.diff(cells // axis.tile) != 0)) + 1
            for part, where in zip(np.split(cells, cuts), np.split(at, cuts), strict=True):
                found.append((grid, number, part[0] // axis.tile, part[0], len(part), where[0]))
    return np.array(found, dtype=np.int64).reshape(-1, 6)


@dataclass(frozen=True)
class ThinRoute:
    """Who predicts which thinned-out window, and what is told: `asked` from owners (`source`) to predictors, `said`
    from predictors to holders (`holder`). Every owner tells every predictor at least how its tiles spread."""

    slots: int
    predictor: Ints
    owners: Ints
    asked: Combs
    source: Ints
    said: Combs
    holder: Ints

    def predicts(self, worker: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.predictor == worker).tolist())

    @cached_property
    def ask_pairs(self) -> tuple[tuple[int, int], ...]:
        """(owner, predictor) of all that is asked, ascending."""
        owners, predictors = np.unique(self.owners).tolist(), np.unique(self.predictor).tolist()
        return tuple((one, other) for one in owners for other in predictors if one != other)

    @cached_property
    def say_pairs(self) -> tuple[tuple[int, int], ...]:
        """(predictor, holder) of all that is said, ascending."""
        sender = self.predictor[self.said.window]
        keys = np.unique((sender * self.slots + self.holder)[sender != self.holder]).tolist()
        return tuple(divmod(key, self.slots) for key in keys)

    def asks(self, owner: int, predictor: int) -> list[tuple[int, Comb]]:
        """What `owner` sends to `predictor` (or, the same, needs of itself), in the order of windows."""
        return list(self.asked.of((self.source == owner) & (self.predictor[self.asked.window] == predictor)))

    def says(self, predictor: int, holder: int) -> list[tuple[int, Comb]]:
        """What `predictor` tells `holder`, in the order of windows."""
        return list(self.said.of((self.predictor[self.said.window] == predictor) & (self.holder == holder)))

    def numbers_asked(self, channels: int) -> int:
        """Numbers that travel from owners to predictors."""
        comb = self.asked.comb[self.source != self.predictor[self.asked.window]]
        tiles = np.bincount(self.owners)
        stats = STATS * sum(int(tiles[owner]) for owner, _ in self.ask_pairs)
        return int((comb[:, 2] * comb[:, 4]).sum()) * channels + stats

    def numbers_said(self, channels: int) -> int:
        """Numbers that travel from predictors to holders."""
        comb = self.said.comb[self.holder != self.predictor[self.said.window]]
        return int((comb[:, 2] * comb[:, 4]).sum()) * channels


def make_thin_route(windows: Thinned, partition: Partition, holdings: Holdings) -> ThinRoute:
    """The route of the thinned-out windows of one step."""
    tiling, stride = windows.tiling, windows.stride
    owners, predictor = partition.owners(tiling), partition.deal(range(len(windows)))
    asked, given = windows.combs(given=False), windows.combs(given=True)
    who, held = holdings.by_tile
    comb = given.comb
    holder, box = who[comb[:, 0]], held[comb[:, 0]]
    first_y, ny = _overlap(comb[:, 1], comb[:, 2], box[:, :, 0], box[:, :, 1], stride)
    first_x, nx = _overlap(comb[:, 3], comb[:, 4], box[:, :, 2], box[:, :, 3], stride)
    entry, number = np.nonzero((holder >= 0) & (ny > 0) & (nx > 0))
    at = entry, number
    skipped_y, skipped_x = (first_y[at] - comb[entry, 1]) // stride, (first_x[at] - comb[entry, 3]) // stride
    down, right = comb[entry, 5] + skipped_y, comb[entry, 6] + skipped_x
    told = np.stack((comb[entry, 0], first_y[at], ny[at], first_x[at], nx[at], down, right), axis=1)
    said = Combs(given.window[entry], told)
    return ThinRoute(partition.slots, predictor, owners, asked, owners[asked.comb[:, 0]], said, holder[at])


def _overlap(first: Ints, count: Ints, low: Ints, high: Ints, stride: int) -> tuple[Ints, Ints]:
    """Of every `stride`-th cell from `first` [n], those within [low, high) [n, m]: the first, and how many."""
    skipped = np.maximum(0, -(-(low - first[:, None]) // stride))
    start = first[:, None] + skipped * stride
    return start, np.maximum(0, np.minimum(count[:, None] - skipped, -(-(high - start) // stride)))
