"""The dataflow of a phase: which calls on which workers, and whose messages go into which. No torch here."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from raytile.engine.pool import Pool, Ref
from raytile.plan.phases import early, phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Pair, Partition


class Flow:
    """Submits whole phases on all workers of a pool. Refs of messages are held until their readers are submitted."""

    def __init__(self, plan: Plan, partition: Partition, pool: Pool) -> None:
        self._plan, self._partition, self._pool = plan, partition, pool
        self._course = phases(plan)
        self._outbox: dict[Pair, Ref] = {}

    def submit(self, number: int) -> list[Ref]:
        """Submit phase `number`; each ref becomes a worker's `PhaseDone` (in a list of one)."""
        plan, partition = self._plan, self._partition
        kind, level, step = self._course[number]
        args: dict[str, tuple[Any, ...]] = {
            "begin": (number, level),
            "step": (number, level, step),
            "end": (number, level),
            "decode": (number,),
        }
        sends: set[Pair] = set()
        if kind == "step":
            sends = set(route(plan, partition, level, step).pairs)
        elif kind == "end":
            sends = set(reads_before(plan, partition, self._course[number + 1]))
        inboxes: dict[int, list[Ref]] = defaultdict(list)
        for (_, reader), ref in sorted(self._outbox.items(), key=lambda item: item[0]):
            inboxes[reader].append(ref)
        targets: dict[int, list[Pair]] = defaultdict(list)
        for pair in sorted(sends):
            targets[pair[0]].append(pair)
        reports: list[Ref] = []
        self._outbox = {}
        for worker in range(partition.workers):
            if kind == "step" and early(plan, partition, level, step, worker):
                self._pool.call(worker, "early", level, step)
            method, mine = "halos" if kind == "decode" else kind, targets[worker]
            report, *sent = self._pool.call(worker, method, *args[kind], *inboxes[worker], returns=1 + len(mine))
            self._outbox.update(zip(mine, sent, strict=True))
            reports.append(report)
        return reports
