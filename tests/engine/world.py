"""A make-believe cluster for the state machine: workers that load, work, store, die, come and go, in any order.

It follows instructions as the driver would, keeps its own books about who owns what, and says which events could
happen next; a test draws one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raytile.engine.instructions import (
    Abandon,
    Cancel,
    CommitDenoised,
    CommitSnapshot,
    DecodeTile,
    Fail,
    Finish,
    Hire,
    Instruction,
    Regroup,
    Release,
    Restore,
    RunPhase,
)
from raytile.engine.state import RenderState
from raytile.engine.terms import FRESH, Bounds, Start
from raytile.events import (
    Counts,
    Event,
    PhaseDone,
    SnapshotStored,
    SnapshotWhole,
    TileDone,
    WorkerHired,
    WorkerLeaving,
    WorkerLost,
    WorkerReady,
)
from raytile.plan.plan import Plan

PROBE = "same"


def ready(worker: int, probe: str = PROBE, version: str = "1") -> WorkerReady:
    return WorkerReady(worker, f"node{worker}", 1, "cpu", probe, version, 0)


@dataclass
class Worker:
    """`calls`: phases to do, with their epoch and whether to save. `rows`, `busy`: what its counts say."""

    loaded: bool = False
    alive: bool = True
    leaving: bool = False
    calls: list[tuple[int, int, bool]] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    stored: list[tuple[int, int]] = field(default_factory=list)
    rows: int = 0
    busy: float = 0.0


class World:
    """`pace(worker)` are the seconds that a worker takes over a row."""

    def __init__(
        self,
        plan: Plan,
        bounds: Bounds,
        there: int,
        coming: int = 0,
        start: Start = FRESH,
        pace: Callable[[int], float] = lambda _: 0.1,
    ) -> None:
        self.workers = {k: Worker() for k in range(there + coming)}
        self.state = RenderState(plan, "1", bounds, range(there + coming), range(there), start)
        self.plan, self.pace = plan, pace
        self.done: dict[int, int] = {}  # phases that each member has finished
        self.members: tuple[int, ...] = ()
        self.began: dict[int, tuple[int, ...]] = {}  # by epoch its members
        self.handing: dict[int, dict[int, int]] = {}  # by epoch who hands tiles over to it, before which phase
        self.whole: list[int] = []  # snapshots that the head may speak of
        self.asked: list[int] = []
        self.to_commit: list[int] = []
        self.lost: list[int] = []
        self.wrote: set[int] = set()
        self.hired = there + coming
        self.redone = 0
        self.moved = 0
        self.end: Instruction | None = None
        self.denoised = start.denoised

    # -- what could happen ----------------------------------------------------------------------------------------

    def possible(self) -> list[Event]:
        """Events that the world's present state allows, in a fixed order."""
        events: list[Event] = [WorkerHired(worker) for worker in self.asked]
        events += [WorkerLost(worker, "was lost") for worker in self.lost]
        events += [SnapshotWhole(phase) for phase in self.to_commit]
        living = {number: worker for number, worker in self.workers.items() if worker.alive}
        events += [ready(number) for number, worker in living.items() if not worker.loaded]
        for number, worker in living.items():
            if worker.calls and self._may_run(number):
                epoch, phase, _ = worker.calls[0]
                events.append(PhaseDone(number, epoch, phase, self._counts(number)))
            elif worker.tiles:
                events.append(TileDone(number, worker.tiles[0], "", "", self._counts(number)))
        return events

    def _may_run(self, number: int) -> bool:
        """The messages it waits for are there: every member of its epoch has done the phase before, and so have those
        that handed their tiles over."""
        epoch, phase, _ = self.workers[number].calls[0]
        return all(self.done.get(other, phase) >= phase for other in self.began[epoch]) and all(
            self.done.get(other, first) >= first for other, first in self.handing.get(epoch, {}).items()
        )

    def _counts(self, number: int) -> Counts:
        worker = self.workers[number]
        return Counts(rows=worker.rows, busy_seconds=worker.busy)

    def report(self, number: int, stored: int | None = None, error: str | None = None) -> PhaseDone:
        """The call that a worker runs comes to its end, and is told: with its first `stored` snapshots (None: all), or
        with why they could not be stored."""
        worker = self.workers[number]
        epoch, phase, save = worker.calls[0]
        if self.state.course[phase].kind == "step":
            worker.rows += 10
            worker.busy += 10 * self.pace(number)
        if save:
            worker.stored.append((epoch, phase))
        told, worker.stored = worker.stored[:stored], [] if stored is None else worker.stored[stored:]
        parts = tuple(SnapshotStored(number, e, p, 0.01, 10, error) for e, p in told)
        return PhaseDone(number, epoch, phase, self._counts(number), parts)

    # -- it happens -----------------------------------------------------------------------------------------------

    def happen(self, event: Event) -> None:
        match event:
            case WorkerHired(worker):
                self.asked.remove(worker)
                self.workers[worker] = Worker()
            case WorkerLost(worker):
                self.lost.remove(worker)
            case SnapshotWhole(phase):
                self.to_commit.remove(phase)
                self.whole.append(phase)
            case WorkerReady(worker):
                self.workers[worker].loaded = True
            case PhaseDone(worker, epoch, phase):
                one = self.workers[worker]
                assert one.calls.pop(0)[:2] == (epoch, phase)
                self.done[worker] = phase + 1
            case TileDone(worker, tile):
                self.workers[worker].tiles.remove(tile)
                self.wrote.add(tile)
            case WorkerLeaving(worker):
                self.workers[worker].leaving = True
        for instruction in self.state.handle(event):
            self.obey(instruction)
        self.state.check()

    def kill(self, number: int) -> None:
        self.workers[number].alive = False
        self.lost.append(number)

    # -- and has consequences -------------------------------------------------------------------------------------

    def obey(self, instruction: Instruction) -> None:
        match instruction:
            case Restore(epoch, phase, partition):
                assert phase == 0 or phase in self.whole, "goes on from what is not whole"
                self._forget_calls()
                self._begin(epoch, partition.members)
                self.done = dict.fromkeys(partition.members, phase)
            case Regroup(epoch, phase, before, after):
                assert before.members == self.members
                assert self.state.course[phase].kind == "step"
                self._begin(epoch, after.members)
                self.handing[epoch] = dict.fromkeys(before.members, phase)
                self.done |= {worker: phase for worker in after.members if worker not in before.members}
                self.moved += 1
            case RunPhase(phase, save, whole):
                assert whole == max(self.whole, default=0)
                for worker in self.members:
                    self.workers[worker].calls.append((max(self.began), phase, save))
            case Abandon(_, redone):
                self._forget_calls()
                self.redone += redone
                self.members = ()
            case CommitSnapshot(phase):
                self.to_commit.append(phase)
            case CommitDenoised():
                self.denoised = True
            case DecodeTile(worker, tile, _):
                self.workers[worker].tiles.append(tile)
            case Hire(count):
                self.asked += range(self.hired, self.hired + count)
                self.hired += count
            case Release(worker):
                one = self.workers[worker]
                assert not one.tiles, "released with tiles to decode"
                assert not one.calls or not one.alive, "released with work to do"
                one.alive = False
            case Finish() | Fail() | Cancel():
                assert self.end is None
                self.end = instruction

    def _begin(self, epoch: int, members: tuple[int, ...]) -> None:
        assert epoch > max(self.began, default=0)
        assert all(self.workers[worker].loaded for worker in members)
        self.began[epoch], self.members = members, members

    def _forget_calls(self) -> None:
        for worker in self.workers.values():
            worker.calls.clear()
            worker.stored.clear()
