"""Workers that somebody else owns and lends to renders, one at a time: they come and are called back at any moment."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raytile.engine.pool import Crew, Outcome, Ref, Setup
from raytile.engine.ray.pool import RayPool
from raytile.engine.ray.verdict import Place, Unfit
from raytile.errors import WorkerLost

NOTICE = 60.0
"""Seconds that a worker which is called back has to hand its tiles over."""
LOOK = 0.05
"""Seconds after which a render that waits for its workers looks whether more have come."""


@dataclass(frozen=True)
class Grant:
    """A worker that is lent: `key` is its owner's name for it."""

    key: int
    actor: Any
    place: Place


class Lender(Protocol):
    """Who is told what becomes of a worker. Called from the thread of the render."""

    def returned(self, key: int, fit: bool) -> None:
        """The render needs this worker no more; if not `fit`, its process is gone or has to end."""
        ...


class Loans:
    """What a lender says to a render: workers to have, workers to give back. Thread-safe."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[Grant] = queue.SimpleQueue()
        self._back: set[int] = set()
        self._news = threading.Event()

    def grant(self, grant: Grant) -> None:
        self._back.discard(grant.key)
        self._came.put(grant)
        self._news.set()

    def call_back(self, key: int) -> None:
        self._back.add(key)
        self._news.set()

    def take(self) -> list[Grant]:
        """The workers that have come since the last call."""
        self._news.clear()
        came = []
        while not self._came.empty():
            came.append(self._came.get())
        return came

    def called_back(self, key: int) -> bool:
        return key in self._back

    def wait(self, seconds: float) -> None:
        """Until there is news, or time is up."""
        self._news.wait(seconds)


@dataclass(frozen=True, eq=False)
class Awaited:
    """The load of a worker that is still to come: stands for it until then."""

    worker: int
    setup: Setup


class LentPool(RayPool):
    """Up to `most` workers that `loans` brings; they go back to `lender`, and live on."""

    lent = True

    def __init__(self, loans: Loans, lender: Lender, most: int) -> None:
        super().__init__(Crew(1, most))
        self._loans, self._lender, self._largest = loans, lender, most
        self._hired: list[int] = []
        self._open: deque[int] = deque()
        self._keys: dict[int, int] = {}
        self._loads: dict[Awaited, Any] = {}
        self._unfit: set[int] = set()

    def connect(self, useful: int) -> None:
        self.least, self.most = 1, min(useful, self._largest)
        self.hire(self.most - len(self.workers()))

    def workers(self) -> tuple[int, ...]:
        return tuple(number for number in self._hired if number not in self._gone)

    def placed(self) -> tuple[int, ...]:
        self._seat()
        return super().placed()

    def hire(self, count: int) -> tuple[int, ...]:
        fresh = tuple(range(len(self._hired), len(self._hired) + count))
        self._hired.extend(fresh)
        self._open.extend(fresh)
        self._seat()
        return fresh

    def _seat(self) -> None:
        """Give those who have come their numbers."""
        for grant in self._loans.take():
            while self._open and self._open[0] in self._gone:
                self._open.popleft()
            if not self._open:
                self._lender.returned(grant.key, True)
                continue
            number = self._open.popleft()
            self._actors[number], self._places[number], self._keys[number] = grant.actor, grant.place, grant.key
            self._numbers[grant.actor._actor_id.hex()] = number
        for awaited, load in self._loads.items():
            if load is None and awaited.worker in self._actors:
                self._loads[awaited] = super().load(awaited.worker, awaited.setup)

    def load(self, worker: int, setup: Setup) -> Ref:
        awaited = Awaited(worker, setup)
        self._loads[awaited] = None
        self._seat()
        return awaited

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        end = time.monotonic() + timeout
        while True:
            self._seat()
            there = {self._loads.get(ref) if isinstance(ref, Awaited) else ref: ref for ref in refs}
            there.pop(None, None)
            left = max(0.0, end - time.monotonic())
            if not there:
                self._loans.wait(left)
            found = super().wait(list(there), min(left, LOOK)) if there else []
            if found or left == 0:
                return [self._named(outcome, there[outcome.ref]) for outcome in found]

    def _named(self, outcome: Outcome, ref: Ref) -> Outcome:
        if isinstance(ref, Awaited):
            del self._loads[ref]
            if outcome.error is not None:  # what it could not load here it would not load for the next either
                self._unfit.add(ref.worker)
        return Outcome(ref, outcome.value, outcome.error, outcome.lost)

    def cancel(self, refs: Collection[Ref]) -> None:
        super().cancel([ref for ref in refs if not isinstance(ref, Awaited)])

    def leaving(self) -> Mapping[int, float]:
        back = {n: NOTICE for n in self.placed() if self._loans.called_back(self._keys[n])}
        return {**back, **super().leaving()}

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        if worker not in self._gone:
            return super().call(worker, method, *args, returns=returns)
        import ray  # its process works for somebody else now

        lost = ray.remote(num_cpus=0)(_lost).options(num_returns=returns).remote(worker, str(self._gone[worker]))
        return tuple(lost) if returns > 1 else (lost,)

    def _called(self, ref: Any) -> int:
        return self._numbers.get(ref.task_id().actor_id().hex(), -1)

    def release(self, worker: int) -> None:
        self._part(worker, WorkerLost(f"worker {worker} was released"), worker not in self._unfit)

    def _end(self, worker: int, why: WorkerLost, kill: bool = True) -> None:  # noqa: ARG002 (its owner ends it)
        self._part(worker, why, fit=False)

    def _part(self, worker: int, why: WorkerLost, fit: bool) -> None:
        if worker in self._gone:
            return
        super()._end(worker, why, kill=False)
        if worker in self._keys:
            self._lender.returned(self._keys[worker], fit)

    def close(self) -> None:
        for worker in self.workers():
            self.release(worker)
        for grant in self._loans.take():
            self._lender.returned(grant.key, True)
        for table in (self._hired, self._open, self._keys, self._loads):
            table.clear()
        super().close()


def _lost(worker: int, why: str) -> None:
    """A task in place of a call on a worker that is not ours any more."""
    raise Unfit(worker, why)
