"""Who holds which tiles for an epoch (`Partition`), and who predicts and sends what at a step (`Route`).

Both are functions of the plan; workers and driver compute them alike, so nobody has to be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.axis import Segment
from raytile.geometry.box import Box, disjoint
from raytile.geometry.tiling import Patch, Piece, Tiling
from raytile.plan.windows import Windows

Pair = tuple[int, int]  # (sender, receiver)
Reads = Mapping[Pair, tuple[Piece, ...]]


@dataclass(frozen=True)
class Partition:
    """Tiles dealt to `workers` workers (numbered from 0) in compact runs whose lengths differ by at most one."""

    workers: int
    epoch: int = 0

    def cuts(self, count: int) -> tuple[int, ...]:
        """Where the runs begin and end when `count` things are dealt evenly: worker k gets [cuts[k], cuts[k+1])."""
        return tuple(k * count // self.workers for k in range(self.workers + 1))

    def tiles(self, tiling: Tiling, worker: int) -> tuple[int, ...]:
        """The tiles of `worker`, ascending."""
        cuts = self.cuts(tiling.count)
        return tuple(sorted(tiling.compact_order()[cuts[worker] : cuts[worker + 1]]))

    def owners(self, tiling: Tiling) -> NDArray[np.int32]:
        """The worker of each tile id."""
        return deal(tiling.compact_order(), self.cuts(tiling.count))


def reading(owners: NDArray[np.int32], wants: Mapping[int, Iterable[Patch]]) -> Reads:
    """What owners send so that each worker can read the patches it wants: each foreign cell once per reader.

    In a `Piece` of the result only tile and box count."""
    boxes: dict[tuple[Pair, int], list[Box]] = defaultdict(list)
    for reader, patches in wants.items():
        for patch in patches:
            for piece in patch.pieces():
                owner = int(owners[piece.tile])
                if owner != reader:
                    boxes[(owner, reader), piece.tile].append(piece.box)
    found: dict[Pair, list[Piece]] = defaultdict(list)
    for (pair, tile), several in sorted(boxes.items()):
        found[pair].extend(Piece(tile, box, 0, 0) for box in disjoint(several))
    return {pair: tuple(pieces) for pair, pieces in found.items()}


@dataclass(frozen=True)
class Route:
    """One step of one level under one partition.

    predicts[k]: the windows worker k predicts, ascending; they differ by at most one between workers.
    interior[k]: those of them whose cells are all its own.
    reads: (owner, predictor) -> cells it needs before it can predict the rest.
    gives: (predictor, owner) -> (window, piece) predictions on cells that the owner fuses, in window order."""

    predicts: tuple[tuple[int, ...], ...]
    interior: tuple[tuple[int, ...], ...]
    reads: Reads
    gives: Mapping[Pair, tuple[tuple[int, Piece], ...]]

    def readers(self, worker: int) -> tuple[int, ...]:
        """To whom `worker` sends bands."""
        return tuple(sorted(to for sender, to in self.reads if sender == worker))

    def sources(self, worker: int) -> tuple[int, ...]:
        """From whom `worker` gets bands."""
        return tuple(sorted(sender for sender, to in self.reads if to == worker))

    def owners_of(self, worker: int) -> tuple[int, ...]:
        """To whom `worker` sends predictions."""
        return tuple(sorted(to for sender, to in self.gives if sender == worker))

    def predictors_for(self, worker: int) -> tuple[int, ...]:
        """From whom `worker` gets predictions."""
        return tuple(sorted(sender for sender, to in self.gives if to == worker))

    @cached_property
    def read_cells(self) -> int:
        return sum(piece.box.area for pieces in self.reads.values() for piece in pieces)

    @cached_property
    def given_cells(self) -> int:
        return sum(piece.box.area for pieces in self.gives.values() for _, piece in pieces)


def make_route(windows: Windows, partition: Partition) -> Route:
    """The route of one step. Only windows that touch foreign tiles are looked at one by one."""
    owners = partition.owners(windows.tiling)
    order = windows.compact_order()
    cuts = partition.cuts(len(order))
    predictor = deal(order, cuts)
    foreign = _touches_foreign(windows, owners, predictor)
    predicts = tuple(tuple(sorted(order[cuts[k] : cuts[k + 1]])) for k in range(partition.workers))
    wants: dict[int, list[Patch]] = defaultdict(list)
    gives: dict[Pair, list[tuple[int, Piece]]] = defaultdict(list)
    for window in np.flatnonzero(foreign).tolist():
        by = int(predictor[window])
        wants[by].append(windows.reads(window))
        for piece in windows.gives(window).pieces():
            owner = int(owners[piece.tile])
            if owner != by:
                gives[by, owner].append((window, piece))
    return Route(
        predicts=predicts,
        interior=tuple(tuple(w for w in mine if not foreign[w]) for mine in predicts),
        reads=reading(owners, wants),
        gives={pair: tuple(pieces) for pair, pieces in sorted(gives.items())},
    )


def deal(order: Sequence[int], cuts: tuple[int, ...]) -> NDArray[np.int32]:
    """The worker of each id, ids being dealt in `order`."""
    dealt = np.empty(len(order), dtype=np.int32)
    dealt[np.asarray(order, dtype=np.int64)] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    return dealt


def _touches_foreign(windows: Windows, owners: NDArray[np.int32], predictor: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which windows have a cell in a tile that is not their predictor's."""
    rows = _tiles_touched([windows.tiling.y.segments(o, windows.size) for o in windows.ys])
    columns = _tiles_touched([windows.tiling.x.segments(o, windows.size) for o in windows.xs])
    grid = owners.reshape(windows.tiling.y.tiles, windows.tiling.x.tiles)
    touched = grid[rows[:, None, :, None], columns[None, :, None, :]]
    by = predictor.reshape(len(windows.ys), len(windows.xs), 1, 1)
    found: NDArray[np.bool_] = (touched != by).any(axis=(2, 3)).reshape(-1)
    return found


def _tiles_touched(segments: Sequence[tuple[Segment, ...]]) -> NDArray[np.int64]:
    """[windows, most tiles touched]; shorter rows repeat their first tile."""
    most = max(len(found) for found in segments)
    return np.array([[s.tile for s in (*found, *(found[:1] * (most - len(found))))] for found in segments])
