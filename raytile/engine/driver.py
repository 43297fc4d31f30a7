"""The loop of a render: waits for what happens, asks the state machine what next, and makes it so. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from raytile import __version__
from raytile.canvas.canvas import Canvas
from raytile.canvas.keeper import Keeper
from raytile.canvas.patience import store_deadline
from raytile.engine.flow import Flow
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
from raytile.engine.interrupts import Interrupts
from raytile.engine.logbook import Logbook
from raytile.engine.pool import Outcome, Pool, Ref, Setup
from raytile.engine.state import IDLE, RenderState
from raytile.engine.tally import Tally
from raytile.engine.terms import FRESH, Bounds, Start
from raytile.errors import Abandoned, ClusterError, RaytileError, RenderCancelled, RenderFailed, first_line
from raytile.events import (
    CancelAsked,
    Event,
    Listener,
    PhaseDone,
    Regrouped,
    RenderFinished,
    RenderStarted,
    RenderStopped,
    StepDone,
    StoreTrouble,
    TileDone,
    WorkerFailed,
    WorkerHired,
    WorkerJoined,
    WorkerLeaving,
    WorkerLeft,
    WorkerLost,
    WorkerReleased,
)
from raytile.plan.cost import foretell
from raytile.plan.phases import Phase
from raytile.plan.route import Partition

Clock = Callable[[], float]
POLL = 0.25
"""Seconds after which the driver looks up from its calls: at signals, at the canvas, at who leaves."""
DOUBT = 10.0
"""Seconds after which a call that was given up for no known reason counts as the loss of its worker."""

STUCK, STUCK_TIMES = 600.0, 20.0
"""Seconds without any progress, and so many times what the measured pace lets expect, after which those that everybody
waits for count as lost: a GPU can hang without its process dying."""


class Watch(NamedTuple):
    """What a ref is of: a call on `worker`; one of an epoch, which a roll-back makes void, or not."""

    worker: int
    epoch: bool


class Driver:
    """Renders the plan of `setup` with the workers of `pool`, which is connected and stays open.

    `begin` gives the canvas and its keeper. For a fresh render it is called once the first workers have loaded, so that
    what fails before leaves no trace; one that goes on (`claimed`) calls it at once. `clock` gives seconds that only go
    forward, `wall` seconds since 1970. `stop` says whether the render is wanted no more."""

    def __init__(
        self,
        setup: Setup,
        pool: Pool,
        begin: Callable[[], tuple[Canvas, Keeper]],
        listeners: Sequence[Listener],
        clock: Clock,
        wall: Clock,
        bounds: Bounds,
        start: Start = FRESH,
        claimed: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._setup, self._pool, self._begin, self._listeners = setup, pool, begin, listeners
        self._clock, self._wall, self._bounds = clock, wall, bounds
        self._flow = Flow(setup.plan, pool)
        self._state = RenderState(setup.plan, __version__, bounds, pool.workers(), pool.placed(), start)
        self._tally = Tally(setup.plan, clock)
        self._claimed = claimed
        self._book: Logbook | None = None
        self._cause: BaseException | None = None
        self._interrupts = Interrupts(stop)
        self._watched: dict[Ref, Watch] = {}
        self._doubts: dict[int, float] = {}
        self._hires: list[tuple[float, int]] = []
        self._leaving: set[int] = set()
        self._restored = 0  # members may still be reading the snapshot that they were last sent back to
        self._troubled = False
        self._moved = clock()  # when anything was last finished
        self._patience = max(STUCK, 2 * store_deadline())  # a call may wait for the store first, and twice

    def run(self) -> Canvas:
        """Render; returns the finished canvas.

        Raises what the first workers met while loading; later `RenderFailed` or `RenderCancelled`, and the canvas then
        says how far it came and can be gone on with. Ctrl-C and SIGTERM cancel; a second one does not wait for the
        step."""
        request, there = self._setup.plan.request, Partition(self._pool.workers()[: self._bounds.most])
        try:
            with self._interrupts:
                if self._claimed:
                    self._book = self._open()
                self._tell(
                    RenderStarted(
                        canvas=self._setup.canvas,
                        width=request.width,
                        height=request.height,
                        workers=there.workers,
                        levels=len(self._setup.plan.levels),
                        phases=len(self._state.course),
                        tiles=self._setup.plan.tiling.count,
                        work=foretell(self._setup.plan, there).work,
                    )
                )
                self._loop()
        except KeyboardInterrupt:
            self._stop("cancelled", "stopped by the user")
            raise RenderCancelled(f"stopped; {self._how_far()}") from None
        except BaseException as error:
            if not isinstance(error, RenderFailed | RenderCancelled):
                self._stop("failed", first_line(error))
            raise
        finally:
            if self._book is not None:
                self._book.close()
            with suppress(Exception):  # what ended the render may have ended the pool too
                self._pool.cancel([*self._watched, *self._flow.in_flight()])
        assert self._book is not None, "a finished render has a canvas"
        return self._book.canvas

    # -- what happens --------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        for worker in self._pool.workers():
            self._load(worker)
        while not self._state.over:
            if self._interrupts.asked:
                self._take(CancelAsked())
            if not self._watched:
                time.sleep(0.1)  # all are lost, and those in their place not asked for yet
            outcomes = self._pool.wait(list(self._watched), timeout=POLL)
            # A loss explains what else went wrong, so it comes first.
            for outcome in sorted(outcomes, key=lambda outcome: outcome.lost is None):
                self._came_through(outcome)
            self._hear()
            self._look_around()

    def _came_through(self, outcome: Outcome) -> None:
        watch = self._watched.pop(outcome.ref, None)
        if watch is None or self._state.over:
            return
        if outcome.lost is not None:
            self._cause = outcome.error
            self._take(WorkerLost(outcome.lost, first_line(outcome.error or Abandoned("lost"))))
        elif isinstance(outcome.error, Abandoned):
            self._doubts.setdefault(watch.worker, self._clock())
        elif outcome.error is not None:
            self._cause = outcome.error
            self._take(WorkerFailed(watch.worker, first_line(outcome.error)))
        else:
            event = outcome.value[0] if isinstance(outcome.value, list) else outcome.value
            if event is not None:  # an epoch that begins has nothing to report
                self._take(event)

    def _hear(self) -> None:
        """What the canvas has to tell."""
        for event in [] if self._book is None else self._book.news(self._restored):
            if isinstance(event, StoreTrouble):
                self._tell(event)
            else:
                self._take(event)

    def _look_around(self) -> None:
        """Whose place is taken away, whom to hire, whom to give up, what to tell the canvas."""
        if self._state.over:
            return
        now = self._clock()
        for worker, seconds in self._pool.leaving().items():
            if worker not in self._leaving:
                self._leaving.add(worker)
                self._take(WorkerLeaving(worker, seconds))
        due, self._hires = [h for h in self._hires if h[0] <= now], [h for h in self._hires if h[0] > now]
        for worker in self._pool.hire(sum(count for _, count in due)):
            self._take(WorkerHired(worker))
            self._load(worker)
        for worker in [worker for worker, since in self._doubts.items() if now - since > DOUBT]:
            self._pool.release(worker)
            self._take(WorkerLost(worker, "gave up a call that was wanted"))
        if now - self._moved > self._patience and self._hangs(now - self._moved):
            self._moved = now
            for worker in self._state.waited_for():
                self._pool.release(worker)
                self._take(WorkerLost(worker, "has not finished anything for too long"))
        if self._book is not None and self._state.status == "running":
            at = self._at()
            self._book.progress(at.level, at.step, self._state.probe, len(self._state.ready))

    def _hangs(self, seconds: float) -> bool:
        """Whether so long without progress cannot be slowness; nobody knows before the slow have been measured."""
        expected = self._state.expected()
        return expected is not None and seconds > STUCK_TIMES * expected

    def _load(self, worker: int) -> None:
        self._watched[self._pool.load(worker, self._setup)] = Watch(worker, epoch=False)

    def _take(self, event: Event) -> None:
        """Let the state machine have an event, then do what it says."""
        if self._state.over:
            return
        whole = self._state.whole
        self._tally.take(event)
        match event:
            case TileDone() if self._book is not None:
                self._book.tile(event.tile)
            case WorkerLost():
                self._doubts.pop(event.worker, None)
                self._drop(event.worker)
            case PhaseDone():
                self._note_trouble(event)
        if isinstance(event, PhaseDone | TileDone | WorkerLost):
            self._moved = self._clock()
        self._tell(event)
        for part in event.shown if isinstance(event, PhaseDone) else ():
            whole_preview = self._tally.shown(part)
            if whole_preview is not None:
                self._tell(whole_preview)
        instructions = self._state.handle(event)
        if self._state.whole > whole and self._state.members:
            self._progress()
        for instruction in instructions:
            self._do(instruction)

    def _note_trouble(self, event: PhaseDone) -> None:
        """Snapshots that cannot be stored are told once, until one can."""
        for stored in event.stored:
            if stored.error and not self._troubled:
                self._tell(StoreTrouble(f"no snapshot was stored: {stored.error}"))
            self._troubled = stored.error is not None

    def _drop(self, worker: int) -> None:
        """Nothing of this worker is waited for any more."""
        self._watched = {ref: watch for ref, watch in self._watched.items() if watch.worker != worker}

    # -- what is done about it -----------------------------------------------------------------------------------

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case RunPhase():
                self._watch(self._flow.submit(instruction))
            case DecodeTile(worker, tile, again):
                self._work()
                (ref,) = self._pool.call(worker, "decode", tile, again)
                self._watched[ref] = Watch(worker, epoch=False)
            case Restore(epoch, phase, partition):
                self._work()
                self._restored = phase
                self._watch(self._flow.restore(instruction))
                if epoch > 1:
                    self._tell(self._tally.rolled_back_to(epoch, phase, partition.members))
            case Regroup():
                self._regroup(instruction)
            case Abandon(phase, redone, lag, why):
                void = [ref for ref, watch in self._watched.items() if watch.epoch]
                self._pool.cancel([*void, *self._flow.in_flight()])
                for ref in void:
                    del self._watched[ref]
                self._doubts.clear()
                self._tally.rolled_back(redone, lag, why)
                if not self._state.members:
                    self._tell(self._tally.rolled_back_to(self._state.epoch, phase, ()))
            case CommitSnapshot(phase):
                self._written().snapshot(phase, self._state.probe)
            case CommitDenoised():
                self._tally.mark("denoised")
                self._written().denoised(self._state.probe)
            case Hire(count, delay):
                self._hires.append((self._clock() + delay, count))
            case Release(worker, why):
                self._pool.release(worker)
                self._drop(worker)
                if why == IDLE:
                    self._tell(WorkerReleased(worker))
                else:
                    left = WorkerLeft(worker, self._state.members, why)
                    self._tally.take(left)
                    self._tell(left)
            case Finish():
                self._finish()
            case Fail(why):
                self._stop("failed", why)
                if not self._tally.began():
                    raise self._cause if isinstance(self._cause, RaytileError) else ClusterError(why)
                raise RenderFailed(f"{why}; {self._how_far()}") from self._cause
            case Cancel():
                self._stop("cancelled", "stopped by the user")
                raise RenderCancelled(f"stopped; {self._how_far()}")

    def _watch(self, refs: Mapping[Ref, int]) -> None:
        self._watched.update({ref: Watch(worker, epoch=True) for ref, worker in refs.items()})

    def _regroup(self, to: Regroup) -> None:
        self._watch(self._flow.regroup(to))
        level = self._setup.plan.levels[self._state.course[to.phase].level]
        moved = int((to.before.owners(level.tiling) != to.after.owners(level.tiling)).sum())
        regrouped = Regrouped(to.epoch, to.phase, to.after.members, moved, to.why)
        joined = [WorkerJoined(w, to.after.members) for w in to.after.members if w not in to.before.members]
        events: tuple[Event, ...] = (*joined, regrouped)
        for event in events:
            self._tally.take(event)
            self._tell(event)

    def _open(self) -> Logbook:
        return Logbook(*self._begin(), self._clock, self._wall)

    def _work(self) -> None:
        """The first workers are there: the canvas comes into being, if it is not there yet."""
        if self._book is None:
            self._book = self._open()
        if not self._tally.began():
            self._tally.mark("loaded")

    def _written(self) -> Logbook:
        assert self._book is not None, "work goes onto a canvas"
        return self._book

    def _finish(self) -> None:
        book, last = self._written(), self._state.course[-1]
        book.finish(last.level, last.step, self._tally.summary(self._setup, self._flow.bytes_planned))
        deadline = self._clock() + store_deadline()
        while not book.told(POLL):
            if self._interrupts.asked or self._clock() > deadline:
                raise RenderFailed(
                    f"all tiles are painted, but {self._setup.canvas} could not be told: raytile resume will do that"
                )
        book.tidy()
        self._tell(RenderFinished(self._setup.canvas, self._tally.seconds()))

    def _progress(self) -> None:
        """All members are past a phase: tell listeners if it was a step."""
        state, phase = self._state, self._state.course[self._state.whole - 1]
        if phase.kind != "step":
            return
        level = self._setup.plan.levels[phase.level]
        self._tell(
            StepDone(
                level=phase.level,
                levels=len(self._setup.plan.levels),
                step=phase.step - level.first_step + 1,
                steps=level.steps - level.first_step,
                done=state.steps(0, state.whole),
                total=state.steps(0, len(state.course)),
            )
        )

    def _stop(self, state: str, why: str) -> None:
        if self._book is not None:
            at = self._at()
            self._book.end(state, why, at.level, at.step)
        self._tell(RenderStopped(self._setup.canvas, why))

    def _how_far(self) -> str:
        return "nothing was written" if self._book is None else self._book.how_far()

    def _at(self) -> Phase:
        """The phase that somebody has still to finish, or the last."""
        return self._state.course[min(self._state.whole, len(self._state.course) - 1)]

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
