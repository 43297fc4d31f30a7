"""The dataflow of a render: which calls on which workers, and whose messages go into which. No torch here."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from raytile.engine.instructions import Regroup, Restore, RunPhase
from raytile.engine.pool import Pool, Ref
from raytile.plan.phases import ask_pairs, early, moves, numbers_said, phases, reads_before, say_pairs, thin_route
from raytile.plan.plan import Plan
from raytile.plan.route import Pair, Partition, Reads

FLOAT32 = 4
UNWATCHED = 16
"""Phases whose unwatched calls are remembered: more than are ever in flight."""


class Flow:
    """Submits whole phases on all members of an epoch. Refs of messages are held until their readers are submitted.

    `bytes_planned` counts, by plan and partition, the bytes of all messages submitted so far."""

    def __init__(self, plan: Plan, pool: Pool) -> None:
        self._plan, self._pool = plan, pool
        self._course = phases(plan)
        self._partition = Partition((0,))
        self._epoch = 0
        self._outbox: dict[Pair, Ref] = {}
        self._fresh = True
        self._unwatched: deque[list[Ref]] = deque(maxlen=UNWATCHED)
        self.bytes_planned = 0

    def restore(self, to: Restore) -> dict[Ref, int]:
        """Begin an epoch with what is stored; whatever was in flight is forgotten. Each ref tells, of the worker that
        stands beside it, only whether that went well."""
        self._epoch, self._partition, self._fresh = to.epoch, to.partition, True
        self._outbox.clear()
        self._unwatched.clear()
        told = (to.epoch, to.phase, to.partition)
        return {self._pool.call(worker, "restore", *told)[0]: worker for worker in to.partition.members}

    def regroup(self, to: Regroup) -> dict[Ref, int]:
        """Begin an epoch with cells handed over by the members of the one before. Refs as of `restore`."""
        _, level, step = self._course[to.phase]
        reads = moves(self._plan, to.before, to.after, level)
        memory = self._plan.sampler == "dpmpp_2m" and step > self._plan.levels[level].first_step
        inboxes, self._outbox = _by_reader(self._outbox), {}
        refs = {
            self._call(worker, "export", (self._epoch, to.after), inboxes[worker], reads): worker
            for worker in to.before.members
        }
        inboxes, self._outbox = _by_reader(self._outbox), {}
        told = (to.epoch, to.phase, to.before, to.after)
        for worker in to.after.members:
            refs[self._pool.call(worker, "assume", *told, *inboxes[worker])[0]] = worker
        self._epoch, self._partition, self._fresh = to.epoch, to.after, True
        self._count(reads, 1 + memory + self._plan.levels[level].anchored)
        return refs

    def submit(self, run: RunPhase) -> dict[Ref, int]:
        """Submit a phase; each ref becomes a `PhaseDone` (in a list of one), of the worker that stands beside it."""
        plan, partition = self._plan, self._partition
        kind, level, step = self._course[run.phase]
        head = (self._epoch, run.phase)
        args: dict[str, tuple[Any, ...]] = {
            "clean": (*head, level),
            "begin": (*head, level),
            "step": (*head, level, step, run.whole, run.save),
            "lane": (*head, level, step),
            "end": (*head, level),
            "keep": head,
        }
        sends: set[Pair] = set()
        reads: Reads = {}
        if kind == "step" and plan.levels[level].dilated:
            sends = set(ask_pairs(plan, partition, level, step))
            asked = thin_route(plan, partition, level, step).numbers_asked(plan.spec.channels)
            self.bytes_planned += asked * FLOAT32
        elif kind in ("step", "lane"):
            sends = set(say_pairs(plan, partition, level, step))
            self.bytes_planned += numbers_said(plan, partition, level, step) * FLOAT32
        elif kind in ("clean", "end"):
            reads = reads_before(plan, partition, self._course[run.phase + 1])
            sends = set(reads)
            self._count(reads)
        inboxes, self._outbox = _by_reader(self._outbox), {}
        unwatched: list[Ref] = []
        reports: dict[Ref, int] = {}
        for worker in partition.members:
            if kind == "step" and not self._fresh and early(plan, partition, level, step, worker):
                unwatched += self._pool.call(worker, "early", self._epoch, level, step)
            reports[self._call(worker, kind, args[kind], inboxes[worker], sends)] = worker
        self._unwatched.append(unwatched)
        self._fresh = kind not in ("step", "lane") and self._fresh
        return reports

    def in_flight(self) -> list[Ref]:
        """Refs that nobody watches, of calls that may still run or wait."""
        return [*(ref for refs in self._unwatched for ref in refs), *self._outbox.values()]

    def _call(self, worker: int, method: str, args: tuple[Any, ...], inbox: list[Ref], sends: Any) -> Ref:
        """Call a worker that sends to the receivers of `sends`; its messages go to the outbox."""
        mine = sorted(pair for pair in sends if pair[0] == worker)
        report, *sent = self._pool.call(worker, method, *args, *inbox, returns=1 + len(mine))
        self._outbox.update(zip(mine, sent, strict=True))
        return report

    def _count(self, reads: Reads, arrays: int = 1) -> None:
        cells = sum(piece.box.area for pieces in reads.values() for piece in pieces)
        self.bytes_planned += cells * arrays * self._plan.spec.channels * FLOAT32


def _by_reader(outbox: Mapping[Pair, Ref]) -> dict[int, list[Ref]]:
    """What each receiver gets, in the order of the senders."""
    inboxes: dict[int, list[Ref]] = defaultdict(list)
    for (_, reader), ref in sorted(outbox.items(), key=lambda item: item[0]):
        inboxes[reader].append(ref)
    return inboxes
