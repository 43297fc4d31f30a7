"""Who owns which tiles (`Partition`), holds which cells (`Holdings`), predicts and sends what at a step (`Route`).

Both are functions of the plan; workers and driver compute them alike, so nobody has to be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.box import Box, disjoint
from raytile.geometry.tiling import Piece, Tiling
from raytile.geometry.turn import places
from raytile.plan.windows import Pieces, Seen, Windows

Pair = tuple[int, int]  # (sender, receiver)
Reads = Mapping[Pair, tuple[Piece, ...]]


@dataclass(frozen=True)
class Partition:
    """Tiles, and windows, dealt to `members` (numbers of workers) in compact runs, in the order of the members.

    `shares` are how much each gets, in any unit; none: all the same, and the runs' lengths differ by at most one."""

    members: tuple[int, ...]
    shares: tuple[int, ...] = ()

    @classmethod
    def even(cls, workers: int) -> Partition:
        """Workers 0, 1, ... alike."""
        return cls(tuple(range(workers)))

    @property
    def workers(self) -> int:
        return len(self.members)

    @property
    def slots(self) -> int:
        """One more than the highest worker number."""
        return max(self.members) + 1

    def cuts(self, count: int) -> tuple[int, ...]:
        """Where the runs begin and end when `count` things are dealt: the k-th member gets [cuts[k], cuts[k+1])."""
        ends = tuple(accumulate(self.shares or (1,) * self.workers, initial=0))
        return tuple(end * count // ends[-1] for end in ends)

    def tiles(self, tiling: Tiling, worker: int) -> tuple[int, ...]:
        """The tiles of `worker`, ascending; none if it is no member."""
        if worker not in self.members:
            return ()
        place, cuts = self.members.index(worker), self.cuts(tiling.count)
        return tuple(sorted(tiling.compact_order[cuts[place] : cuts[place + 1]]))

    def owners(self, tiling: Tiling) -> NDArray[np.int64]:
        """The worker of each tile id."""
        return self.deal(tiling.compact_order)

    def deal(self, order: Sequence[int], costs: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The worker of each id, ids being dealt in `order`. With `costs` (of each id) not as many to each, but as
        dear: each goes to whose share its middle falls into."""
        dealt, ids = np.empty(len(order), dtype=np.int64), np.asarray(order, dtype=np.int64)
        if costs is None or not len(ids) or costs.min() == costs.max():
            dealt[ids] = np.repeat(self.members, np.diff(self.cuts(len(order))))
            return dealt
        ends = np.cumsum(self.shares or (1,) * self.workers)
        spent = np.cumsum(costs[ids])
        middles = (2 * spent - costs[ids]) * ends[-1]  # in units of 2 * all costs, so that they are whole
        dealt[ids] = np.asarray(self.members)[np.searchsorted(2 * spent[-1] * ends, middles, side="right")]
        return dealt


def reading(owners: NDArray[np.int64], wants: Mapping[int, Iterable[Seen]]) -> Reads:
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
    """What each worker holds of a level, an entry for each tile of each worker: its own cores, and its halo: of a
    foreign tile, one box [n, (y0, y1, x0, x1)] around all cells that it reads at any step.

    A worker keeps its halo up to date by itself, from the same predictions as the owner and with the same bits. So a
    step takes one exchange, of predictions, where owners that update alone would need a second one, of bands."""

    worker: NDArray[np.int64]
    tile: NDArray[np.int64]
    box: NDArray[np.int64]

    def of(self, worker: int) -> dict[int, Box]:
        """What `worker` holds, by tile, ascending."""
        mine = self.worker == worker
        return {tile: Box(*box) for tile, box in zip(self.tile[mine].tolist(), self.box[mine].tolist(), strict=True)}

    def cells(self) -> NDArray[np.int64]:
        """How many cells each worker holds."""
        areas = (self.box[:, 1] - self.box[:, 0]) * (self.box[:, 3] - self.box[:, 2])
        return np.bincount(self.worker, weights=areas).astype(np.int64)

    @cached_property
    def by_tile(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who holds each tile, [tiles, most of any] with -1 for nobody, and which box of it, empty for nobody."""
        order = np.argsort(self.tile, kind="stable")
        tile = self.tile[order]
        rank = np.arange(len(tile)) - np.searchsorted(tile, tile)
        who = np.full((tile[-1] + 1, rank.max() + 1), -1, dtype=np.int64)
        boxes = np.zeros((*who.shape, 4), dtype=np.int64)
        who[tile, rank], boxes[tile, rank] = self.worker[order], self.box[order]
        return who, boxes


def make_holdings(
    steps: Sequence[tuple[Windows, NDArray[np.int64]]],
    partition: Partition,
    active: NDArray[np.bool_] | None = None,
    reach: int = 0,
) -> Holdings:
    """What is held over `steps`, each given by its windows and what each of them costs; of tiles that are not `active`
    only what is read. `reach`: how many cells around each core its owner looks at besides."""
    tiling = steps[0][0].tiling
    owners = partition.owners(tiling)
    mine = np.arange(tiling.count) if active is None else np.flatnonzero(active)
    keys, boxes = [owners[mine] * tiling.count + mine], [_cores(tiling)[mine]]
    if reach:
        near = [(tile, piece) for tile in mine.tolist() for piece in tiling.around(tile, reach)[0].pieces()]
        keys.append(np.array([owners[tile] * tiling.count + piece.tile for tile, piece in near]))
        boxes.append(np.array([piece.box for _, piece in near]))
    for windows, costs in steps:
        predictor = partition.deal(windows.compact_order, costs)
        abroad = (owners[windows.tiles] != predictor[:, None]).any(axis=1)
        if active is not None:
            abroad |= ~active[windows.tiles].all(axis=1)
        pieces = windows.pieces(np.flatnonzero(abroad), given=False)
        keys.append(predictor[pieces.window] * tiling.count + pieces.tile)
        boxes.append(pieces.box)
    key, box = np.concatenate(keys), np.concatenate(boxes)
    order = np.argsort(key, kind="stable")
    key, box = key[order], box[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    low, high = np.minimum.reduceat(box, first, axis=0), np.maximum.reduceat(box, first, axis=0)
    around = np.stack((low[:, 0], high[:, 1], low[:, 2], high[:, 3]), axis=1)
    return Holdings(key[first] // tiling.count, key[first] % tiling.count, around)


@dataclass(frozen=True)
class Route:
    """One step of one level under one partition: every worker predicts its windows, and tells each holder of their
    cells. Where windows cost alike, their shares differ by at most one between workers.

    slots: one more than the highest worker number. predictor: the worker of each window. said: what is sent, an entry
    for each piece of a window and each of its holders but the predictor; sender, holder: of each entry. Entries are
    ordered by sender, holder, window, place."""

    slots: int
    predictor: NDArray[np.int64]
    sender: NDArray[np.int64]
    holder: NDArray[np.int64]
    said: Pieces

    def predicts(self, worker: int) -> tuple[int, ...]:
        """The windows of `worker`, ascending."""
        return tuple(np.flatnonzero(self.predictor == worker).tolist())

    def shares(self) -> NDArray[np.int64]:
        """How many windows each worker number predicts."""
        return np.bincount(self.predictor, minlength=self.slots)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Who sends to whom, ascending."""
        keys = np.unique(self.sender * self.slots + self.holder).tolist()
        return tuple(divmod(key, self.slots) for key in keys)

    def gives(self, sender: int, holder: int) -> tuple[tuple[int, Piece], ...]:
        """The predictions on cells of `holder` that `sender` sends, as (window, piece), in window order."""
        mine = (self.sender == sender) & (self.holder == holder)
        columns = (self.said.window, self.said.tile, self.said.box, self.said.at, self.said.turn)
        entries = zip(*(column[mine].tolist() for column in columns), strict=True)
        return tuple((window, Piece(tile, Box(*box), at[0], at[1], turn)) for window, tile, box, at, turn in entries)

    @cached_property
    def heard(self) -> NDArray[np.bool_]:
        """[workers, tiles]: about which tiles a holder is told something."""
        flags = np.zeros((self.slots, 1 + int(self.said.tile.max(initial=0))), dtype=bool)
        flags[self.holder, self.said.tile] = True
        return flags

    @cached_property
    def cells(self) -> int:
        """Cells sent by all together."""
        box = self.said.box
        return int(((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).sum())


def make_route(
    windows: Windows, partition: Partition, holdings: Holdings, costs: NDArray[np.int64] | None = None
) -> Route:
    """The route of one step; `costs` of its windows, if they are not all alike."""
    predictor = partition.deal(windows.compact_order, costs)
    who, held = holdings.by_tile
    near = who[windows.tiles]
    told = ((near >= 0) & (near != predictor[:, None, None])).any(axis=(1, 2)) | (not windows.local)
    pieces = windows.pieces(np.flatnonzero(told), given=True)
    holder, box = who[pieces.tile], held[pieces.tile]
    low = np.maximum(pieces.box[:, None, 0::2], box[:, :, 0::2])
    high = np.minimum(pieces.box[:, None, 1::2], box[:, :, 1::2])
    sender = np.broadcast_to(predictor[pieces.window][:, None], holder.shape)
    entry, number = np.nonzero((holder >= 0) & (holder != sender) & (low < high).all(axis=2))
    low, high = low[entry, number], high[entry, number]
    sender, holder = sender[entry, number], holder[entry, number]
    whole = pieces.box[entry]
    size, corner = whole[:, 1::2] - whole[:, 0::2], whole[:, [0, 0, 2, 2]]
    both = np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1)
    turn = pieces.turn[entry]
    at = pieces.at[entry] + places(turn, size, both - corner)
    window = pieces.window[entry]
    order = np.lexsort((at[:, 1], at[:, 0], window, holder, sender))
    said = Pieces(window[order], pieces.tile[entry][order], both[order], at[order], turn[order])
    return Route(partition.slots, predictor, sender[order], holder[order], said)


def _cores(tiling: Tiling) -> NDArray[np.int64]:
    """[tiles, (y0, y1, x0, x1)]"""
    rows = np.array([tiling.y.core(number) for number in range(tiling.y.tiles)])
    columns = np.array([tiling.x.core(number) for number in range(tiling.x.tiles)])
    return np.concatenate((np.repeat(rows, len(columns), axis=0), np.tile(columns, (len(rows), 1))), axis=1)
