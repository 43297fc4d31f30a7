"""The course of a render: begin a level, its steps, its end, the next level, keep; and who needs what before each.

Kinds of exchange: *predictions* between the steps of a level (`route`), *cells* that owners publish at a level's end
for those who begin the next one (`reads_before`), and cells that change hands when a new epoch begins (`moves`)."""

from __future__ import annotations

from functools import lru_cache
from math import lcm
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytile.plan.plan import Plan
from raytile.plan.route import Holdings, Partition, Reads, Route, make_holdings, make_route, reading
from raytile.plan.upsample import coarse_patch


class Phase(NamedTuple):
    """`step` is the index into the schedule: for `begin` the level's first, for `end` and `keep` one past the last.

    A step takes in the predictions of the one before, updates the cells, and predicts; `end` takes in the last ones;
    `keep` puts the final latents onto the canvas, whence any worker can decode a tile. An epoch can begin before any
    phase that is a step."""

    kind: Literal["begin", "step", "end", "keep"]
    level: int
    step: int


def phases(plan: Plan) -> tuple[Phase, ...]:
    """All phases in order."""
    course: list[Phase] = []
    for level in plan.levels:
        course.append(Phase("begin", level.index, level.first_step))
        course += [Phase("step", level.index, step) for step in range(level.first_step, level.steps)]
        course.append(Phase("end", level.index, level.steps))
    return (*course, Phase("keep", len(plan.levels) - 1, plan.steps))


@lru_cache(maxsize=16)
def holdings(plan: Plan, partition: Partition, level: int) -> Holdings:
    """What each worker holds while `level` is painted."""
    steps = range(plan.levels[level].first_step, plan.steps)
    return make_holdings([plan.windows(level, step) for step in steps], partition)


@lru_cache(maxsize=8)
def route(plan: Plan, partition: Partition, level: int, step: int) -> Route:
    """The route of one step; kept for a few steps, since several callers ask for it."""
    return make_route(plan.windows(level, step), partition, holdings(plan, partition, level))


def early(plan: Plan, partition: Partition, level: int, step: int, worker: int) -> tuple[int, ...]:
    """The windows of `step` that `worker` can predict before others' predictions of the step before have come: those
    in tiles about which nobody else had anything to say. Whole micro-batches of them, so that a step pads once."""
    inside = np.flatnonzero(_alone(plan, partition, level, step) == worker)
    return tuple(inside[: len(inside) - len(inside) % _whole_batches(plan, step)].tolist())


def early_counts(plan: Plan, partition: Partition, level: int, step: int) -> NDArray[np.int64]:
    """How many windows `early` gives each worker."""
    alone = _alone(plan, partition, level, step)
    counts = np.bincount(alone[alone >= 0], minlength=partition.slots)
    return counts - counts % _whole_batches(plan, step)


def _whole_batches(plan: Plan, step: int) -> int:
    """The fewest windows whose rows fill whole micro-batches."""
    return lcm(plan.rows(step), plan.micro_batch) // plan.rows(step)


@lru_cache(maxsize=8)
def _alone(plan: Plan, partition: Partition, level: int, step: int) -> NDArray[np.int64]:
    """Of each window its predictor, or -1 where that has to wait for others, or where nothing is waited for at all."""
    now, windows = route(plan, partition, level, step), plan.windows(level, step)
    nobody = np.full(len(windows), -1, dtype=np.int64)
    if step == plan.levels[level].first_step:
        return nobody
    before = route(plan, partition, level, step - 1)
    heard = np.zeros((partition.slots, windows.tiling.count), dtype=bool)
    heard[:, : before.heard.shape[1]] = before.heard
    told = np.asarray(before.heard.any(axis=1))
    waits = heard[now.predictor[:, None], windows.tiles].any(axis=1) | ~told[now.predictor]
    return np.where(waits, nobody, now.predictor)


@lru_cache(maxsize=16)
def reads_before(plan: Plan, partition: Partition, phase: Phase) -> Reads:
    """Which cells of the level just ended owners send to whom before `phase`; none within a level."""
    if partition.workers == 1 or phase.kind != "begin" or phase.level == 0:
        return {}
    coarse, fine = plan.levels[phase.level - 1].tiling, plan.levels[phase.level].tiling
    held = holdings(plan, partition, phase.level)
    wants = {k: [coarse_patch(coarse, fine, box)[0] for box in held.of(k).values()] for k in partition.members}
    return reading(partition.owners(coarse), wants)


@lru_cache(maxsize=4)
def moves(plan: Plan, before: Partition, after: Partition, level: int) -> Reads:
    """Which cells the owners of one epoch send to the holders of the next, so that it can begin within `level`."""
    tiling, held = plan.levels[level].tiling, holdings(plan, after, level)
    wants = {
        k: [tiling.patch(box.y0, box.x0, box.height, box.width) for box in held.of(k).values()] for k in after.members
    }
    return reading(before.owners(tiling), wants)
