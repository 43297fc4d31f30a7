"""The course of a render: begin a level, its steps, its end, the next level, keep; and who needs what before each.

Kinds of exchange: *predictions* between the steps of a level (`route`), *cells* that owners publish at a level's end
for those who begin the next one (`reads_before`), and cells that change hands when a new epoch begins (`moves`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.box import Box
from raytile.geometry.strips import Copy
from raytile.geometry.tiling import Tiling
from raytile.plan.around import by_pixels
from raytile.plan.plan import Level, Plan
from raytile.plan.route import Holdings, Pair, Partition, Reads, Route, make_holdings, make_route, reading
from raytile.plan.thin import ThinRoute, make_thin_route, thinned
from raytile.plan.upsample import enlarging
from raytile.plan.windows import Seen


class Phase(NamedTuple):
    """`step` is the index into the schedule: for `clean` and `begin` the level's first, for `end` and `keep` one past
    the last.

    `clean` makes the clean latents that a level begins with, where that is more than enlarging the level before. A step
    takes in the predictions of the one before, updates the cells, and predicts (a `lane` after it predicts thinned-out
    windows, and sends what both predicted); `end` takes in the last ones; `keep`
    puts the final latents onto the canvas, whence any worker can decode a tile. An epoch can begin before any phase
    that is a step."""

    kind: Literal["clean", "begin", "step", "lane", "end", "keep"]
    level: int
    step: int


def phases(plan: Plan) -> tuple[Phase, ...]:
    """All phases in order."""
    course: list[Phase] = []
    for level in plan.levels:
        if level.begins == "clean":
            course.append(Phase("clean", level.index, level.first_step))
        course.append(Phase("begin", level.index, level.first_step))
        kinds: tuple[Literal["step", "lane"], ...] = ("step", "lane") if level.dilated else ("step",)
        course += [Phase(kind, level.index, step) for step in range(level.first_step, level.steps) for kind in kinds]
        course.append(Phase("end", level.index, level.steps))
    return (*course, Phase("keep", len(plan.levels) - 1, plan.steps))


@lru_cache(maxsize=16)
def holdings(plan: Plan, partition: Partition, level: int) -> Holdings:
    """What each worker holds while `level` is painted."""
    steps = range(plan.levels[level].first_step, plan.steps)
    active = plan.active if plan.partial else None
    reach = 2**level - 1 if plan.levels[level].dilated else 0
    windows = [(plan.windows(level, step), plan.rows(level, step)) for step in steps]
    return make_holdings(windows, partition, active, reach)


@lru_cache(maxsize=8)
def route(plan: Plan, partition: Partition, level: int, step: int) -> Route:
    """The route of one step; kept for a few steps, since several callers ask for it."""
    return make_route(plan.windows(level, step), partition, holdings(plan, partition, level), plan.rows(level, step))


@lru_cache(maxsize=4)
def thin_route(plan: Plan, partition: Partition, level: int, step: int) -> ThinRoute:
    """The route of the thinned-out windows of one step of a dilated level."""
    windows = thinned(plan.levels[level].tiling, plan.spec.window, 2**level, plan.offset(level, step))
    return make_thin_route(windows, partition, holdings(plan, partition, level))


def ask_pairs(plan: Plan, partition: Partition, level: int, step: int) -> tuple[Pair, ...]:
    """Who sends to whom between the two phases of a step of a dilated level, ascending."""
    return thin_route(plan, partition, level, step).ask_pairs


def say_pairs(plan: Plan, partition: Partition, level: int, step: int) -> tuple[Pair, ...]:
    """Who tells whom predictions of a step, ascending."""
    told = route(plan, partition, level, step).pairs
    if plan.levels[level].dilated:
        told = tuple(sorted({*told, *thin_route(plan, partition, level, step).say_pairs}))
    return told


def numbers_said(plan: Plan, partition: Partition, level: int, step: int) -> int:
    """How many numbers that are."""
    own = route(plan, partition, level, step).cells * plan.spec.channels
    if plan.levels[level].dilated:
        own += thin_route(plan, partition, level, step).numbers_said(plan.spec.channels)
    return own


def early(plan: Plan, partition: Partition, level: int, step: int, worker: int) -> tuple[int, ...]:
    """The windows of `step` that `worker` can predict before others' predictions of the step before have come: those
    in tiles about which nobody else had anything to say. Whole micro-batches of them, so that a step pads once."""
    return tuple(np.flatnonzero(early_predictor(plan, partition, level, step) == worker).tolist())


@lru_cache(maxsize=8)
def early_predictor(plan: Plan, partition: Partition, level: int, step: int) -> NDArray[np.int64]:
    """Of each window the worker that predicts it early, or -1."""
    found, rows = _alone(plan, partition, level, step).copy(), plan.rows(level, step)
    for worker in partition.members:
        alone = np.flatnonzero(found == worker)
        full = np.flatnonzero(np.cumsum(rows[alone]) % plan.micro_batch == 0)
        found[alone[full[-1] + 1 if len(full) else 0 :]] = -1
    return found


@lru_cache(maxsize=8)
def _alone(plan: Plan, partition: Partition, level: int, step: int) -> NDArray[np.int64]:
    """Of each window its predictor, or -1 where that has to wait for others, or where nothing is waited for at all."""
    now, windows = route(plan, partition, level, step), plan.windows(level, step)
    nobody = np.full(len(windows), -1, dtype=np.int64)
    if step == plan.levels[level].first_step or plan.levels[level].dilated:
        return nobody
    before = route(plan, partition, level, step - 1)
    heard = np.zeros((partition.slots, windows.tiling.count), dtype=bool)
    heard[:, : before.heard.shape[1]] = before.heard
    told = np.asarray(before.heard.any(axis=1))
    waits = heard[now.predictor[:, None], windows.tiles].any(axis=1) | ~told[now.predictor]
    return np.where(waits, nobody, now.predictor)


@lru_cache(maxsize=16)
def reads_before(plan: Plan, partition: Partition, phase: Phase) -> Reads:
    """Which cells owners send to whom before `phase`: of the level just ended, or of the clean latents just made; none
    within a level."""
    this = plan.levels[phase.level]
    before = plan.levels[phase.level - 1].tiling if phase.level else this.tiling
    wants: dict[int, list[Seen]]
    if phase.kind == "clean" and phase.level:
        wants = {
            k: [by_pixels(plan, phase.level, this.tiling.core(tile)).patch for tile in partition.tiles(this.tiling, k)]
            for k in partition.members
        }
        return reading(partition.owners(before), wants)
    if partition.workers == 1 or phase.kind != "begin" or this.begins == "noise":
        return {}
    held = holdings(plan, partition, phase.level)
    boxes = {k: [copy.box for box in held.of(k).values() for copy in origins(this, box)] for k in partition.members}
    if this.begins == "clean":
        wants = {k: [_seen(this.tiling, box) for box in mine] for k, mine in boxes.items()}
        return reading(partition.owners(this.tiling), wants)
    wants = {k: [part.patch for box in mine for part in enlarging(plan, phase.level, box)] for k, mine in boxes.items()}
    return reading(partition.owners(before), wants)


@lru_cache(maxsize=4)
def moves(plan: Plan, before: Partition, after: Partition, level: int) -> Reads:
    """Which cells the owners of one epoch send to the holders of the next, so that it can begin within `level`. What
    is never painted does not move: everybody knows where to find it."""
    tiling, held = plan.levels[level].tiling, holdings(plan, after, level)
    frozen = ~plan.active if plan.partial else np.zeros(tiling.count, dtype=bool)
    wants = {k: [_seen(tiling, box) for tile, box in held.of(k).items() if not frozen[tile]] for k in after.members}
    return reading(before.owners(tiling), wants)


def origins(level: Level, box: Box) -> tuple[Copy, ...]:
    """Of every part of `box` the cells whose beginning it shares, noise included: its own but where sides are alike."""
    atlas = level.joined(level.first_step)
    return (Copy(box, box, 0),) if atlas is None else atlas.origin(box)


def _seen(tiling: Tiling, box: Box) -> Seen:
    return tiling.patch(box.y0, box.x0, box.height, box.width)
