"""What happens next. A pure state machine: events in, instructions out; it knows no Ray, no clock, no threads.

`handle` is the only mutator. `check` states the invariants; tests call it after every event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Literal

from raytile.engine import policy
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
from raytile.engine.pace import Pace
from raytile.engine.roster import Roster
from raytile.engine.saving import Saving
from raytile.engine.terms import FRESH, Bounds, Start
from raytile.engine.tile_queue import TileQueue
from raytile.events import (
    CancelAsked,
    CanvasTaken,
    Event,
    PhaseDone,
    SnapshotWhole,
    TileDone,
    WorkerFailed,
    WorkerHired,
    WorkerLeaving,
    WorkerLost,
    WorkerReady,
)
from raytile.plan.phases import Phase, phases
from raytile.plan.plan import Plan
from raytile.plan.route import Partition

Status = Literal["starting", "running", "finished", "failed", "cancelled"]
GOING, IDLE = "its place is taken away", "no tile is left for it"


class RenderState:
    """One render by workers that come and go.

    Phases are submitted at most `ahead` beyond the slowest member: dataflow holds their order, the bound holds their
    memory. Before a phase that is a step, a new epoch may begin, which deals the tiles to other members or in other
    shares; nothing is done twice for it. A lost member takes all others back to the last whole snapshot. From the last
    phase on, which puts the final latents onto the canvas, any worker may decode any tile."""

    def __init__(
        self,
        plan: Plan,
        version: str,
        bounds: Bounds,
        loading: Collection[int],
        expected: Collection[int],
        start: Start = FRESH,
    ) -> None:
        """`version`: the driver's. `loading`: the workers there are, all told to load; of these it waits for
        `expected`, as long as they live, before it starts."""
        self.status: Status = "starting"
        self.course: tuple[Phase, ...] = phases(plan)
        self.epoch = 0
        self.valid_from = 0
        """The first epoch whose calls count: those from before a roll-back do not."""
        self.partition = Partition((0,))
        self._saving = Saving(start.snapshot, bounds.snapshot_every)
        self.submitted = len(self.course) if start.denoised else start.snapshot
        self.tiles = TileQueue(plan, start.denoised, start.tiles_done)
        self._roster = Roster(version, start.probe, loading, expected)
        self._plan, self._bounds = plan, bounds
        # Gone from the epoch with tiles still to hand over: phases each has finished, and has to.
        self._departed: dict[int, tuple[int, int]] = {}
        # Members of the epoch, with how many phases each has finished; none while all are lost.
        self._done: dict[int, int] = {}
        self._pace = Pace()

    @property
    def members(self) -> tuple[int, ...]:
        """Who has tiles in the epoch that was begun last, as far as they live."""
        return tuple(self._done)

    @property
    def snapshot(self) -> int:
        """The phase that the render goes back to when a member is lost."""
        return self._saving.whole

    @property
    def whole(self) -> int:
        """Phases that every member has finished."""
        return min(self._done.values(), default=len(self.course) if self.tiles.denoised else self.snapshot)

    @property
    def ready(self) -> Mapping[int, WorkerReady]:
        """Workers that have loaded and are there, members or not."""
        return self._roster.ready

    @property
    def probe(self) -> str | None:
        """What the devices of this canvas compute, once the first has said so."""
        return self._roster.probe

    def waited_for(self) -> tuple[int, ...]:
        """Those that everybody else waits for, or that have tiles to decode."""
        slowest = [worker for worker, done in self._done.items() if done == self.whole < self.submitted]
        return tuple(slowest or sorted(self.tiles.busy()))

    def expected(self) -> float | None:
        """Seconds that what everybody waits for should take by the measured pace of those who do it; None if one of
        them was not measured yet."""
        known, tile = self._pace.known(), self._pace.tile_seconds
        if not self._done or self.whole == self.submitted:
            return tile
        if not all(worker in known for worker in self._done):
            return None
        _, level, step = self.course[min(self.whole, len(self.course) - 1)]
        step = min(step, self._plan.steps - 1)  # `end` and `keep` take less than the step before them
        return policy.step_seconds(self.partition, known, self._plan.rows(level, step), self._plan.micro_batch)

    @property
    def over(self) -> bool:
        return self.status in ("finished", "failed", "cancelled")

    def steps(self, first: int, last: int) -> int:
        """How many of the phases from `first` to before `last` are steps."""
        return sum(1 for phase in islice(self.course, first, last) if phase.kind == "step")

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what happened; return what to do about it, in order."""
        if self.over:
            return []
        match event:
            case CancelAsked():
                self.status = "cancelled"
                return [Cancel()]
            case WorkerFailed(worker, why):
                return self._failed(worker, why)
            case CanvasTaken(why):
                return self._fail(why)
            case WorkerHired(worker):
                self._roster.asked -= 1
                self._roster.loading.add(worker)
            case WorkerReady():
                return self._came(event)
            case WorkerLost(worker, why):
                return self._lost(worker, why)
            case WorkerLeaving(worker):
                return self._leaves(worker)
            case PhaseDone():
                return self._phase_done(event)
            case SnapshotWhole(phase):
                self._saving.committed(phase)
                self._roster.safe()
                return self._part() if self._deserted else []
            case TileDone(worker, tile) if self.tiles.take(worker, tile):
                self._pace.take_tile(worker, event.counts)
                self._roster.safe()
                return self._go_on()
        return []

    def check(self) -> None:
        """The invariants; raises AssertionError."""
        self.tiles.check()
        assert (self.status == "finished") == self.tiles.finished
        assert self.tiles.busy() <= set(self.ready)
        assert 0 <= self.snapshot <= len(self.course)
        if self._done:
            assert set(self._done) <= set(self.partition.members)
            for worker in set(self.partition.members) - set(self._done):
                assert self.tiles.has(self.partition.tiles(self._plan.tiling, worker)), "a tile has no owner"
            assert all(done <= self.submitted for done in self._done.values())
            assert self.submitted <= max(self.whole + self._bounds.ahead, self.snapshot)
            assert len(self._done) <= self._bounds.most
        assert set(self._done) <= set(self.ready), "a member is not there"
        self._roster.check()
        assert self._saving.missing <= set(self._done) | set(self._departed), "waits for who is not there"

    # -- workers come and go -------------------------------------------------------------------------------------

    def _came(self, event: WorkerReady) -> list[Instruction]:
        worker, roster = event.worker, self._roster
        if worker not in roster.loading:
            return []
        roster.loading.discard(worker)
        roster.expected.discard(worker)
        odd = roster.odd(event)
        if odd and not self._done and len(roster.ready) + len(roster.loading) < self._bounds.least:
            return self._fail(odd)
        if odd or worker in roster.leaving:
            return [self._release(worker, odd or GOING), *self._go_on()]
        roster.came(event)
        return self._go_on()

    def _failed(self, worker: int, why: str) -> list[Instruction]:
        """What fails while others work fails everywhere; one that only fails to load can be done without."""
        wanted, loading = 1 if self.status == "running" else self._bounds.least, self._roster.loading
        if worker in loading and len(self.ready) + len(loading) > wanted:
            return [self._release(worker, f"it failed to load: {why}"), *self._go_on()]
        return self._fail(f"worker {worker} failed: {why}")

    def _lost(self, worker: int, why: str) -> list[Instruction]:
        if worker not in self._roster.loading and worker not in self.ready and worker not in self._departed:
            return []
        self._roster.lost(worker)
        if self._roster.losses > policy.RETRIES:
            return self._fail(f"{self._roster.lost_too_often()}; the last was worker {worker}: {why}")
        needed = worker in self._departed or self._done.get(worker, len(self.course)) < len(self.course)
        furthest = min(self.submitted, max(self._done.values(), default=0) + 1)
        lag = 0 if (since := self._saving.under_way) is None else self.steps(since, furthest)
        self._forget(worker)
        self.tiles.lose(worker)
        if not needed or self.tiles.denoised:
            return [*self._hire(), *self._go_on()]
        self._abandon()
        abandon = Abandon(self.snapshot, self.steps(self.snapshot, furthest), lag, why)
        return [abandon, *self._hire(), *self._go_on()]

    def _abandon(self) -> None:
        """Nobody owns anything until the next `Restore`."""
        self._done, self._departed = {}, {}
        self._saving.go_back()
        self.submitted = self.snapshot
        self.valid_from = self.epoch + 1

    def _leaves(self, worker: int) -> list[Instruction]:
        if worker in self._roster.leaving or not (worker in self.ready or worker in self._roster.loading):
            return []
        self._roster.leaving.add(worker)
        return [*self._hire(), *self._go_on()]

    @property
    def _deserted(self) -> bool:
        """Whether all who have tiles in hand are called away, and nobody has come yet to hand them to."""
        return bool(self._done) and set(self.ready) <= self._roster.leaving

    def _part(self) -> list[Instruction]:
        """What those who are called away did is stored: they go, and the render rests until others come."""
        redone = self.steps(self.snapshot, min(self.submitted, max(self._done.values()) + 1))
        self._abandon()
        gone = [self._release(worker, GOING) for worker in tuple(self.ready)]
        return [Abandon(self.snapshot, redone, 0, GOING), *gone, *self._hire()]

    def _forget(self, worker: int) -> None:
        self._roster.forget(worker)
        self._done.pop(worker, None)
        self._departed.pop(worker, None)
        self._saving.lose(worker)

    def _release(self, worker: int, why: str) -> Release:
        self._forget(worker)
        return Release(worker, why)

    def _hire(self) -> list[Instruction]:
        """Ask for workers in place of those that went, as far as there is work for them."""
        wanted = min(self._bounds.most, self.tiles.waiting) if self.tiles.denoised else self._bounds.most
        more = wanted - self._roster.there()
        if more <= 0:
            return []
        self._roster.asked += more
        return [Hire(more, policy.hire_delay(self._roster.losses))]

    # -- work gets done ------------------------------------------------------------------------------------------

    def _phase_done(self, event: PhaseDone) -> list[Instruction]:
        todo: list[Instruction] = []
        for stored in event.stored:
            if self._saving.stored(stored):
                todo.append(CommitSnapshot(stored.phase))
        if event.epoch < self.valid_from:
            return todo
        self._roster.begun()
        kind = self.course[event.phase].kind
        if kind == "step":
            self._pace.take(event.worker, event.counts)
        if event.worker in self._departed:
            done, last = self._departed[event.worker]
            self._departed[event.worker] = max(done, event.phase + 1), last
        if event.worker in self._done:
            # Reports of one worker may come out of turn.
            self._done[event.worker] = max(self._done[event.worker], event.phase + 1)
            if kind == "keep":
                before = self.tiles.denoised
                self._roster.safe()
                self.tiles.keep(self.partition.tiles(self._plan.tiling, event.worker))
                if self.tiles.denoised and not before:
                    todo.append(CommitDenoised())
        return [*todo, *self._go_on()]

    def _go_on(self) -> list[Instruction]:
        """Whatever can be done now."""
        if self.tiles.finished:
            self.status = "finished"
            return [Finish()]
        if self.status == "starting":
            if self._roster.expected or len(self.ready) < self._bounds.least:
                return []
            self.status = "running"
        todo: list[Instruction] = []
        if not self.tiles.denoised and self.ready and not self._done:
            todo.append(self._restore())
        if self._done:
            todo += self._submit()
        return [*todo, *self._decode(), *self._let_go()]

    def _restore(self) -> Restore:
        members = policy.crew((), self.ready, self._roster.leaving, self._bounds.most) or tuple(sorted(self.ready))
        self.epoch += 1
        self.partition = policy.deal(members, self._pace.known())
        self.submitted = self.snapshot
        self._done = dict.fromkeys(members, self.snapshot)
        self._pace.epoch_begins()
        return Restore(self.epoch, self.snapshot, self.partition)

    def _submit(self) -> list[Instruction]:
        todo: list[Instruction] = []
        while self.submitted < min(len(self.course), self.whole + self._bounds.ahead):
            if self.course[self.submitted].kind == "step":
                todo += self._regroup()
            todo.append(RunPhase(self.submitted, self._save(), self.snapshot))
            self.submitted += 1
        return todo

    def _regroup(self) -> list[Instruction]:
        """Begin a new epoch here if others should be members, or the members' shares be others."""
        members = policy.crew(self.members, self.ready, self._roster.leaving, self._bounds.most) or self.members
        after = policy.deal(members, self._pace.known())
        if members == self.members and not self._worth(after):
            return []
        came = [worker for worker in members if worker not in self._done]
        went = [worker for worker in self._done if worker not in members]
        said = [(came, "came"), (went, "will go")]
        why = ", ".join(f"{', '.join(map(str, who))} {verb}" for who, verb in said if who) or "speeds differ"
        before, self.partition = self.partition, after
        self._departed.update({worker: (self._done[worker], self.submitted) for worker in went})
        self._done = {worker: self._done.get(worker, self.submitted) for worker in members}
        self.epoch += 1
        self._pace.epoch_begins()
        return [Regroup(self.epoch, self.submitted, before, after, why)]

    def _worth(self, after: Partition) -> bool:
        """Whether the same members should share the work in another way."""
        if after == self.partition or not self._pace.settled(after.members):
            return False
        _, level, step = self.course[self.submitted]
        rows, batch = self._plan.rows(level, step), self._plan.micro_batch
        return policy.worth_moving(self.partition, after, self._pace.known(), rows, batch)

    def _save(self) -> bool:
        """Whether the members shall save what they have at the start of the phase to be submitted."""
        phase = self.submitted
        if self.course[phase].kind != "step":
            return False
        finer = self.course[phase].level > 0 and self.course[phase - 1].kind == "begin"
        since = self.steps(self._saving.tried, phase), self._pace.busy_since_snapshot()
        if not self._saving.begin(phase, self.epoch, self._done, *since, landmark=finer or self._deserted):
            return False
        self._pace.snapshot_begins()
        return True

    def _decode(self) -> list[Instruction]:
        """Give tiles to workers that have nothing else to do: their own first, then, once all are denoised, any."""
        todo: list[Instruction] = []
        for worker in sorted(self.ready):
            if worker in self._roster.leaving or not (
                self.tiles.denoised or self._done.get(worker) == len(self.course)
            ):
                continue
            if not self.tiles.room(worker):
                continue
            own = frozenset(self.partition.tiles(self._plan.tiling, worker))
            todo += [DecodeTile(worker, tile, again) for tile, again in self.tiles.give(worker, own)]
        return todo

    def _let_go(self) -> list[Instruction]:
        """Release who is not needed: members that left and whose tiles have arrived, and the idle of the end."""
        gone = [worker for worker, (done, last) in self._departed.items() if done == last < self.whole]
        todo: list[Instruction] = [self._release(worker, GOING) for worker in gone]
        if not self.tiles.denoised:
            return todo
        for worker in sorted((set(self.ready) | self._roster.loading) - self.tiles.busy()):
            if worker in self._roster.leaving:
                todo.append(self._release(worker, GOING))
            elif not (self.tiles.waiting or self._bounds.keep_idle):
                todo.append(self._release(worker, IDLE))
        return [*todo, *(self._hire() if self.tiles.waiting and not self.ready and not self._roster.loading else [])]

    def _fail(self, why: str) -> list[Instruction]:
        self.status = "failed"
        return [Fail(why)]
