"""The dataflow of a phase: which calls on which workers, and whose messages go into which. No torch here."""

from __future__ import annotations

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
        reports: list[Ref] = []
        outbox: dict[Pair, Ref] = {}
        for worker in range(partition.workers):
            if kind == "step" and early(plan, partition, level, step, worker):
                self._pool.call(worker, "early", level, step)
            inbox = [ref for (_, reader), ref in sorted(self._outbox.items()) if reader == worker]
            targets = sorted(pair for pair in sends if pair[0] == worker)
            method = "halos" if kind == "decode" else kind
            report, *sent = self._pool.call(worker, method, *args[kind], *inbox, returns=1 + len(targets))
            outbox.update(zip(targets, sent, strict=True))
            reports.append(report)
        self._outbox = outbox
        return reports
