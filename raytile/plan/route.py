"""Who owns which tiles (`Partition`), holds which cells (`Holdings`), predicts and sends what at a step (`Route`).

Both are functions of the plan; workers and driver compute them alike, so nobody has to be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.box import Box, disjoint
from raytile.geometry.tiling import Patch, Piece, Tiling
from raytile.plan.windows import Windows

Pair = tuple[int, int]  # (sender, receiver)
Reads = Mapping[Pair, tuple[Piece, ...]]


@dataclass(frozen=True)
class Partition:
    """Tiles dealt to `workers` workers (numbered from 0) in compact runs whose lengths differ by at most one."""

    workers: int

    def cuts(self, count: int) -> tuple[int, ...]:
        """Where the runs begin and end when `count` things are dealt evenly: worker k gets [cuts[k], cuts[k+1])."""
        return tuple(k * count // self.workers for k in range(self.workers + 1))

    def tiles(self, tiling: Tiling, worker: int) -> tuple[int, ...]:
        """The tiles of `worker`, ascending."""
        cuts = self.cuts(tiling.count)
        return tuple(sorted(tiling.compact_order[cuts[worker] : cuts[worker + 1]]))

    def owners(self, tiling: Tiling) -> NDArray[np.int32]:
        """The worker of each tile id."""
        return deal(tiling.compact_order, self.cuts(tiling.count))


def reading(owners: NDArray[np.int32], wants: Mapping[int, Iterable[Patch]]) -> Reads:
    """What owners send so that each worker can read the patches it wants: each foreign cell once per reader.

    In a `Piece` of the result only tile and box count."""
    boxes: dict[tuple[Pair, int], list[Box]] = defaultdict(list)
    for reader, patches in wants.items():
        home = frozenset(np.flatnonzero(owners == reader).tolist())
        for patch in patches:
            if home.issuperset(patch.tiles()):
                continue
            for piece in patch.pieces():
                owner = int(owners[piece.tile])
                if owner != reader:
                    boxes[(owner, reader), piece.tile].append(piece.box)
    found: dict[Pair, list[Piece]] = defaultdict(list)
    for (pair, tile), several in sorted(boxes.items()):
        found[pair].extend(Piece(tile, box, 0, 0) for box in disjoint(several))
    return {pair: tuple(pieces) for pair, pieces in found.items()}


@dataclass(frozen=True)
class Holdings:
    """What each worker holds of a level, tile by tile: its own cores, and its halo: of a foreign tile, one box around
    all cells that it reads at any step.

    A worker keeps its halo up to date by itself, from the same predictions as the owner and with the same bits. So a
    step takes one exchange, of predictions, where owners that update alone would need a second one, of bands."""

    held: tuple[Mapping[int, Box], ...]

    @cached_property
    def holders(self) -> tuple[tuple[tuple[int, Box], ...], ...]:
        """Of each tile, who holds which box of it."""
        found: list[list[tuple[int, Box]]] = [[] for _ in range(1 + max(max(mine, default=0) for mine in self.held))]
        for worker, mine in enumerate(self.held):
            for tile, box in mine.items():
                found[tile].append((worker, box))
        return tuple(tuple(who) for who in found)

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """The holders' numbers, [tiles, most of any]; where a tile has fewer, one comes again."""
        most = max(len(who) for who in self.holders)
        return np.array([[k for k, _ in (*who, *who[:1] * (most - len(who)))] for who in self.holders], dtype=np.int32)


def make_holdings(steps: Sequence[Windows], partition: Partition) -> Holdings:
    """What is held over `steps`, each given by its windows."""
    tiling = steps[0].tiling
    owners = partition.owners(tiling)
    held: list[dict[int, Box]] = [{} for _ in range(partition.workers)]
    for windows in steps:
        predictor = deal(windows.compact_order, partition.cuts(len(windows)))
        for window in np.flatnonzero((owners[windows.tiles] != predictor[:, None]).any(axis=1)).tolist():
            mine = held[predictor[window]]
            for tile, box, _, _ in windows.reads(window).pieces():
                mine[tile] = mine[tile].around(box) if tile in mine else box
    for tile, owner in enumerate(owners.tolist()):
        held[owner][tile] = tiling.core(tile)
    return Holdings(tuple(dict(sorted(mine.items())) for mine in held))


@dataclass(frozen=True)
class Route:
    """One step of one level under one partition.

    predicts[k]: the windows worker k predicts, ascending; they differ by at most one between workers.
    gives: (predictor, holder) -> (window, piece) predictions on cells that the other holds, in window order."""

    predicts: tuple[tuple[int, ...], ...]
    gives: Mapping[Pair, tuple[tuple[int, Piece], ...]]

    def targets(self, worker: int) -> tuple[int, ...]:
        """To whom `worker` sends predictions."""
        return tuple(sorted(to for sender, to in self.gives if sender == worker))

    def sources(self, worker: int) -> tuple[int, ...]:
        """From whom `worker` gets predictions."""
        return tuple(sorted(sender for sender, to in self.gives if to == worker))

    def hears(self, worker: int) -> frozenset[int]:
        """The tiles held by `worker` about which others have something to say."""
        said = (pieces for (_, to), pieces in self.gives.items() if to == worker)
        return frozenset(piece.tile for pieces in said for _, piece in pieces)

    @cached_property
    def cells(self) -> int:
        """Cells sent by all together."""
        return sum(piece.box.area for pieces in self.gives.values() for _, piece in pieces)


def make_route(windows: Windows, partition: Partition, holdings: Holdings) -> Route:
    """The route of one step. Only windows that touch what others hold are looked at one by one."""
    order = windows.compact_order
    cuts = partition.cuts(len(order))
    predictor = deal(order, cuts)
    gives: dict[Pair, list[tuple[int, Piece]]] = defaultdict(list)
    for window in np.flatnonzero((holdings.table[windows.tiles] != predictor[:, None, None]).any(axis=(1, 2))).tolist():
        by = int(predictor[window])
        for tile, box, y, x in windows.gives(window).pieces():
            for holder, held in holdings.holders[tile]:
                if holder != by:
                    common = box.intersect(held)
                    if common.area:
                        piece = Piece(tile, common, y + common.y0 - box.y0, x + common.x0 - box.x0)
                        gives[by, holder].append((window, piece))
    return Route(
        predicts=tuple(tuple(sorted(order[cuts[k] : cuts[k + 1]])) for k in range(partition.workers)),
        gives={pair: tuple(pieces) for pair, pieces in sorted(gives.items())},
    )


def deal(order: Sequence[int], cuts: tuple[int, ...]) -> NDArray[np.int32]:
    """The worker of each id, ids being dealt in `order`."""
    dealt = np.empty(len(order), dtype=np.int32)
    dealt[np.asarray(order, dtype=np.int64)] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    return dealt
