"""A local pool in which trouble comes by a script: the engine's tests are made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytile.engine.local import LocalPool
from raytile.engine.pool import Outcome, Ref, Setup


@dataclass(eq=False)
class Awaited:
    """The result of a load that has to wait for a place."""

    worker: int
    setup: Setup
    loaded: Ref | None = None


class TroubledPool(LocalPool):
    """Starts with `workers`. Its clock counts the calls made, and the waits in which nothing was there to report.

    As it comes to n: `lose[n]` is lost, that call of its own included; `leave[n]` begins to leave; `arrive[n]` more of
    those that were asked for find a place, or those asked for later. A worker that was hired has a place only so.
    `lose_in[method]` is lost in its first call of that method. `ahead` phases are submitted before any is reported."""

    def __init__(
        self,
        workers: int,
        lose: Mapping[int, int] | None = None,
        leave: Mapping[int, int] | None = None,
        arrive: Mapping[int, int] | None = None,
        lose_in: Mapping[str, int] | None = None,
        ahead: int = 1,
    ) -> None:
        super().__init__(workers)
        self.ahead, self._lose_in = ahead, dict(lose_in or {})
        self._lose, self._leave, self._arrive = dict(lose or {}), dict(leave or {}), dict(arrive or {})
        self.most = workers + sum(self._arrive.values())
        self.calls = 0
        self.placeless: list[int] = []
        self.room = workers
        self._going: set[int] = set()
        self._awaited: list[Awaited] = []

    def hire(self, count: int) -> tuple[int, ...]:
        fresh = super().hire(count)
        self.placeless.extend(fresh)
        self._seat()
        return fresh

    def placed(self) -> tuple[int, ...]:
        return tuple(number for number in self.workers() if number not in self.placeless)

    def load(self, worker: int, setup: Setup) -> Ref:
        if worker not in self.placeless:
            return super().load(worker, setup)
        self._awaited.append(Awaited(worker, setup))
        return self._awaited[-1]

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        assert worker not in self.placeless, f"{method} on worker {worker}, which has no place yet"
        self._tick()
        if self._lose_in.get(method) == worker:
            self.release(self._lose_in.pop(method))
        return super().call(worker, method, *args, returns=returns)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        found = self._found(refs, timeout)
        if not found:
            self._tick()
            found = self._found(refs, timeout)
        return found

    def leaving(self) -> Mapping[int, float]:
        return {number: 30.0 for number in self._going if number in self._hired}

    def release(self, worker: int) -> None:
        super().release(worker)
        if worker in self.placeless:
            self.placeless.remove(worker)
            self._seat()

    def _found(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        ready = {ref.loaded if isinstance(ref, Awaited) else ref: ref for ref in refs}
        ready.pop(None, None)
        return [replace(outcome, ref=ready[outcome.ref]) for outcome in super().wait(list(ready), timeout)]

    def _tick(self) -> None:
        self.calls += 1
        self.room += self._arrive.pop(self.calls, 0)
        self._seat()
        if self.calls in self._leave:
            self._going.add(self._leave.pop(self.calls))
        if self.calls in self._lose:
            self.release(self._lose.pop(self.calls))

    def _seat(self) -> None:
        """Give a place to as many as there are places."""
        while self.room and self.placeless:
            self.room -= 1
            self.placeless.pop(0)
        for awaited in [each for each in self._awaited if each.worker not in self.placeless]:
            self._awaited.remove(awaited)
            awaited.loaded = LocalPool.load(self, awaited.worker, awaited.setup)
