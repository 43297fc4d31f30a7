"""How much workers send each other, counted without listing the messages: for foretelling canvases of any size.

`plan.route` says which cells go where; here whole arrays are compared instead. Both follow from the same plan, and a
test holds them to the same counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.axis import Segment
from raytile.plan.phases import Phase
from raytile.plan.plan import Plan
from raytile.plan.route import Pair, Partition, deal
from raytile.plan.upsample import coarse_patch
from raytile.plan.windows import Windows

Stretch = tuple[Segment, ...]


@dataclass(frozen=True)
class Traffic:
    """What readers need of others before a phase. A patch is a window, or what a tile is decoded or made from.

    pairs: (owner, reader) that exchange anything. read_cells: foreign cells, once per reader; given_cells: once per
    patch that covers them, which is what predictors give back. shares, inside: patches of each reader, and those of
    them whose cells are all its own."""

    pairs: frozenset[Pair]
    read_cells: int
    given_cells: int
    shares: tuple[int, ...]
    inside: tuple[int, ...]


def traffic_before(plan: Plan, partition: Partition, phase: Phase) -> Traffic | None:
    """The traffic before `phase`; None where a level begins from noise, and nothing is read."""
    if phase.kind == "step":
        return _of_windows(plan.windows(phase.level, phase.step), partition)
    if phase.kind == "begin" and phase.level == 0:
        return None
    tiling = plan.levels[phase.level].tiling
    across, down = range(tiling.x.tiles), range(0, tiling.count, tiling.x.tiles)
    readers = partition.owners(tiling).reshape(tiling.y.tiles, tiling.x.tiles)
    if phase.kind == "decode":
        halo = plan.spec.decode_halo
        rows = [tiling.around(tile, halo)[0].rows for tile in down]
        columns = [tiling.around(tile, halo)[0].columns for tile in across]
        return _traffic(rows, columns, readers, readers, partition.workers)
    coarse = plan.levels[phase.level - 1].tiling
    rows = [coarse_patch(coarse, tiling, tile)[0].rows for tile in down]
    columns = [coarse_patch(coarse, tiling, tile)[0].columns for tile in across]
    owners = partition.owners(coarse).reshape(coarse.y.tiles, coarse.x.tiles)
    return _traffic(rows, columns, readers, owners, partition.workers)


@lru_cache(maxsize=4)
def _of_windows(windows: Windows, partition: Partition) -> Traffic:
    """Kept for a while, since under `overlap` the windows of all steps are the same."""
    tiling = windows.tiling
    predictor = deal(windows.compact_order(), partition.cuts(len(windows)))
    return _traffic(
        [tiling.y.segments(origin, windows.size) for origin in windows.ys],
        [tiling.x.segments(origin, windows.size) for origin in windows.xs],
        predictor.reshape(len(windows.ys), len(windows.xs)),
        partition.owners(tiling).reshape(tiling.y.tiles, tiling.x.tiles),
        partition.workers,
    )


def _traffic(
    rows: Sequence[Stretch],
    columns: Sequence[Stretch],
    readers: NDArray[np.int32],
    owners: NDArray[np.int32],
    workers: int,
) -> Traffic:
    """The traffic of patches `rows` x `columns`, read by `readers` [row, column]; `owners` [tile row, tile column]."""
    y, x = _cut(rows), _cut(columns)
    owner = owners[y.tile[:, None], x.tile[None, :]].astype(np.int64)
    foreign_patch = np.zeros(readers.shape, dtype=bool)
    given, wanted, pairs = 0, [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for iy in y.patches:
        for ix in x.patches:
            reader = readers[iy[:, None], ix[None, :]]
            there = (iy >= 0)[:, None] & (ix >= 0)[None, :]
            at_y, at_x = np.nonzero(there & (reader != owner))
            given += int((y.length[at_y] * x.length[at_x]).sum())
            foreign_patch[iy[at_y], ix[at_x]] = True
            by = reader[at_y, at_x]
            wanted.append((at_y * len(x.length) + at_x) * workers + by)
            pairs.append(np.unique(owner[at_y, at_x] * workers + by))
    piece = np.unique(np.concatenate(wanted)) // workers
    return Traffic(
        pairs=frozenset(divmod(int(pair), workers) for pair in np.unique(np.concatenate(pairs))),
        read_cells=int((y.length[piece // len(x.length)] * x.length[piece % len(x.length)]).sum()),
        given_cells=given,
        shares=tuple(np.bincount(readers.reshape(-1), minlength=workers).tolist()),
        inside=tuple(np.bincount(readers[~foreign_patch], minlength=workers).tolist()),
    )


@dataclass(frozen=True)
class _Cut:
    """An axis cut wherever a patch or a tile begins or ends: each piece's length and tile, and the patches on it.

    `patches` has as many rows as the most patches on a piece; -1 where a piece has fewer."""

    length: NDArray[np.int64]
    tile: NDArray[np.int64]
    patches: NDArray[np.int64]


def _cut(stretches: Sequence[Stretch]) -> _Cut:
    edges = sorted({edge for stretch in stretches for s in stretch for edge in (s.start, s.stop)})
    number = {edge: index for index, edge in enumerate(edges)}
    tile = np.zeros(len(edges) - 1, dtype=np.int64)
    # A dict keeps a patch once, though it may come round a small wrapped axis twice.
    found: list[dict[int, None]] = [{} for _ in tile]
    for patch, stretch in enumerate(stretches):
        for segment in stretch:
            for piece in range(number[segment.start], number[segment.stop]):
                tile[piece] = segment.tile
                found[piece][patch] = None
    patches = np.full((max(map(len, found)), len(tile)), -1, dtype=np.int64)
    for piece, mine in enumerate(found):
        patches[: len(mine), piece] = list(mine)
    length = np.array([stop - start for start, stop in pairwise(edges)], dtype=np.int64)
    return _Cut(length, tile, patches)
