"""Grow, shrink, retry, give up: the numbers behind the state machine's choices. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raytile.plan.route import Partition

SNAPSHOT_SHARE = 0.02
"""Of the time that workers compute, what storing snapshots may take, were it on their path (it is not)."""
FIRST_GUESS = 0.02
"""Seconds that a worker's first snapshot is taken to cost."""
DEAREST = 1.2
"""Seconds that a snapshot is taken to cost at most: an outage of the store is no reason to save once in an hour."""
RETRIES = 5
"""How often in a row workers may be lost without anything being finished in between."""
WORTH_MOVING = 0.9
"""Workers are dealt anew if a step then takes at most this share of the time."""
WORTH_SECONDS = 0.02
"""... and if that saves at least so many seconds."""
MEASURED = 3
"""Steps that say how fast a worker is: the fastest of them counts, so that a stutter is no slowness."""


def crew(members: Sequence[int], ready: Collection[int], leaving: Collection[int], most: int) -> tuple[int, ...]:
    """Who should be in the next epoch: those who are and stay, in their order, then those who came."""
    stay = [worker for worker in members if worker in ready and worker not in leaving]
    come = [worker for worker in sorted(ready) if worker not in members and worker not in leaving]
    return tuple((stay + come)[:most])


def deal(members: tuple[int, ...], seconds_per_row: Mapping[int, float]) -> Partition:
    """Everybody gets as much as they are fast; those who are not measured yet count as the fastest."""
    known = [seconds_per_row[worker] for worker in members if worker in seconds_per_row]
    if not known:
        return Partition(members)
    fastest = min(known)
    shares = tuple(max(1, round(100 * fastest / seconds_per_row.get(worker, fastest))) for worker in members)
    return Partition(members) if min(shares) == max(shares) else Partition(members, shares)


def step_seconds(
    partition: Partition, seconds_per_row: Mapping[int, float], rows: NDArray[np.int64], micro_batch: int
) -> float:
    """How long the slowest member takes over a step whose windows take so many `rows` each."""
    cuts = partition.cuts(int(rows.sum()))
    batches = [-(-(cuts[k + 1] - cuts[k]) // micro_batch) for k in range(partition.workers)]
    return max(
        number * micro_batch * seconds_per_row.get(worker, 0.0)
        for number, worker in zip(batches, partition.members, strict=True)
    )


def worth_moving(
    before: Partition, after: Partition, seconds_per_row: Mapping[int, float], rows: NDArray[np.int64], micro_batch: int
) -> bool:
    """Whether dealing a step's work as `after` says gains enough."""
    now, then = (step_seconds(each, seconds_per_row, rows, micro_batch) for each in (before, after))
    return then < now * WORTH_MOVING and now - then > WORTH_SECONDS


def hire_delay(losses: int) -> float:
    """Seconds to wait before asking for a worker in place of one that was lost, after so many losses in a row."""
    return 0.0 if losses <= 1 else float(min(30, 2 ** (losses - 2)))


def snapshot_due(every: int | None, steps_since: int, busy_since: float, cost: float | None) -> bool:
    """Whether to save: every so many steps (0: never), or as often as the measured cost allows."""
    if every is not None:
        return bool(every) and steps_since >= every
    return steps_since >= 1 and busy_since * SNAPSHOT_SHARE >= (FIRST_GUESS if cost is None else min(cost, DEAREST))
