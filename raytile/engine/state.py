"""What happens next. A pure state machine: events in, instructions out; it knows no Ray, no clock, no threads.

`handle` is the only mutator. `check` states the invariants; tests call it after every event."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raytile.events import CancelAsked, Event, PhaseDone, TileDone, WorkerLost, WorkerReady

Status = Literal["starting", "running", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class RunPhase:
    """Submit phase number `phase` on every worker."""

    phase: int


@dataclass(frozen=True)
class DecodeTile:
    """Have `worker` decode and write one of its tiles."""

    worker: int
    tile: int


@dataclass(frozen=True)
class Finish:
    """Every tile is on the canvas: seal it."""


@dataclass(frozen=True)
class Fail:
    """The render cannot go on: say so on the canvas and release the workers."""

    why: str


@dataclass(frozen=True)
class Cancel:
    """The user stopped the render: say so on the canvas and release the workers."""


Instruction = RunPhase | DecodeTile | Finish | Fail | Cancel


class RenderState:
    """One render by a fixed number of workers.

    Phases are submitted at most `ahead` beyond the slowest worker: dataflow holds their order, the bound holds their
    memory. Decoding starts per worker as soon as its own halos are there, `DECODES_AHEAD` tiles submitted at a time.
    """

    DECODES_AHEAD = 2

    def __init__(self, tiles: Sequence[Sequence[int]], phases: int, ahead: int, version: str) -> None:
        """`tiles[k]` are worker k's; `phases` how many phases the plan has, decoding (the last) included; `version`
        the driver's."""
        self._version = version
        self.status: Status = "starting"
        self.phases, self.ahead = phases, ahead
        self.ready: dict[int, WorkerReady] = {}
        self.submitted = 0
        self.done = [0] * len(tiles)
        self.tiles_done: set[int] = set()
        self.tiles_total = sum(len(mine) for mine in tiles)
        self._waiting = [deque(mine) for mine in tiles]
        self._decoding: dict[int, int] = {}

    @property
    def workers(self) -> int:
        return len(self.done)

    @property
    def whole(self) -> int:
        """Phases that every worker has finished."""
        return min(self.done)

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what happened; return what to do about it, in order."""
        if self.status in ("finished", "failed", "cancelled"):
            return []
        if isinstance(event, CancelAsked):
            self.status = "cancelled"
            return [Cancel()]
        if isinstance(event, WorkerLost):
            return self._fail(f"worker {event.worker} {event.why}")
        if isinstance(event, WorkerReady):
            return self._ready(event)
        if isinstance(event, PhaseDone):
            # Reports of one worker may come out of turn.
            self.done[event.worker] = max(self.done[event.worker], event.phase + 1)
            return self._submit() + self._decode(event.worker)
        if isinstance(event, TileDone):
            del self._decoding[event.tile]
            self.tiles_done.add(event.tile)
            if len(self.tiles_done) == self.tiles_total:
                self.status = "finished"
                return [Finish()]
            return self._decode(event.worker)
        return []

    def check(self) -> None:
        """The invariants; raises AssertionError."""
        assert self.whole <= self.submitted <= min(self.phases, self.whole + self.ahead)
        assert all(done <= self.submitted for done in self.done)
        waiting = [tile for mine in self._waiting for tile in mine]
        everywhere = [*waiting, *self._decoding, *self.tiles_done]
        assert len(everywhere) == len(set(everywhere)) == self.tiles_total
        assert (self.status == "finished") == (len(self.tiles_done) == self.tiles_total)
        for tile, worker in self._decoding.items():
            assert self.done[worker] == self.phases, f"tile {tile} decodes before its halos are there"

    def _ready(self, event: WorkerReady) -> list[Instruction]:
        if event.version != self._version:
            return self._fail(
                f"raytile is {event.version} on {event.node} and {self._version} here: install one version"
            )
        for other in self.ready.values():
            if other.probe != event.probe:
                return self._fail(
                    f"workers {other.worker} ({other.device} on {other.node}) and {event.worker} ({event.device} on "
                    f"{event.node}) do not compute alike, so the picture would depend on who painted what: "
                    "use one kind of device"
                )
        self.ready[event.worker] = event
        if len(self.ready) < self.workers:
            return []
        self.status = "running"
        return self._submit()

    def _submit(self) -> list[Instruction]:
        first, self.submitted = self.submitted, min(self.phases, self.whole + self.ahead)
        return [RunPhase(phase) for phase in range(first, self.submitted)]

    def _decode(self, worker: int) -> list[Instruction]:
        if self.done[worker] < self.phases:
            return []
        going = sum(1 for by in self._decoding.values() if by == worker)
        todo: list[Instruction] = []
        while self._waiting[worker] and going + len(todo) < self.DECODES_AHEAD:
            tile = self._waiting[worker].popleft()
            self._decoding[tile] = worker
            todo.append(DecodeTile(worker, tile))
        return todo

    def _fail(self, why: str) -> list[Instruction]:
        self.status = "failed"
        return [Fail(why)]
