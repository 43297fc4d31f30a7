"""The course of a render: begin a level, its steps, the next level, decode. What must be read before each.

Every phase ends with owners publishing what the next phase's readers want, so one rule serves bands between steps,
coarse cells between levels, and halos before decoding."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from raytile.plan.plan import Plan
from raytile.plan.route import Partition, Reads, Route, make_route, reading
from raytile.plan.upsample import coarse_patch


class Phase(NamedTuple):
    """`step` is the index into the schedule; it means nothing for `begin` and `decode`."""

    kind: Literal["begin", "step", "decode"]
    level: int
    step: int


def phases(plan: Plan) -> tuple[Phase, ...]:
    """All phases in order."""
    course: list[Phase] = []
    for level in plan.levels:
        course.append(Phase("begin", level.index, level.first_step))
        course += [Phase("step", level.index, step) for step in range(level.first_step, level.steps)]
    return (*course, Phase("decode", len(plan.levels) - 1, plan.steps))


@lru_cache(maxsize=64)
def route(plan: Plan, partition: Partition, level: int, step: int) -> Route:
    """The route of one step; kept for a while, since several callers ask for it."""
    return make_route(plan.windows(level, step), partition)


@lru_cache(maxsize=16)
def _between(plan: Plan, partition: Partition, kind: str, level: int) -> Reads:
    tiling = plan.levels[level].tiling
    everyone = range(partition.workers)
    if kind == "decode":
        halo = plan.spec.decode_halo
        wants = {k: [tiling.around(tile, halo)[0] for tile in partition.tiles(tiling, k)] for k in everyone}
        return reading(partition.owners(tiling), wants)
    coarse = plan.levels[level - 1].tiling
    wants = {k: [coarse_patch(coarse, tiling, tile)[0] for tile in partition.tiles(tiling, k)] for k in everyone}
    return reading(partition.owners(coarse), wants)


def reads_before(plan: Plan, partition: Partition, phase: Phase) -> Reads:
    """Who sends which cells to whom before `phase`; on the coarser level's tiles where a level begins."""
    if phase.kind == "step":
        return route(plan, partition, phase.level, phase.step).reads
    if phase.kind == "begin" and phase.level == 0:
        return {}
    return _between(plan, partition, phase.kind, phase.level)
