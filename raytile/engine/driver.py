"""The loop of a render: waits for what happens, asks the state machine what next, and makes it so. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from raytile import __version__
from raytile.canvas.canvas import Canvas
from raytile.canvas.keeper import CancelSeen, Committed, Keeper, Taken, Trouble
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
from raytile.engine.pool import Outcome, Pool, Ref, Setup
from raytile.engine.state import FRESH, IDLE, Bounds, RenderState, Start
from raytile.engine.tally import Tally
from raytile.errors import (
    Abandoned,
    CanvasError,
    ClusterError,
    RaytileError,
    RenderCancelled,
    RenderFailed,
    first_line,
)
from raytile.events import (
    CancelAsked,
    CanvasTaken,
    Event,
    Listener,
    Regrouped,
    RenderFinished,
    RenderStarted,
    RenderStopped,
    RolledBack,
    SnapshotWhole,
    StepDone,
    StoreTrouble,
    TileDone,
    WorkerFailed,
    WorkerHired,
    WorkerJoined,
    WorkerLeaving,
    WorkerLeft,
    WorkerLost,
)
from raytile.plan.cost import foretell
from raytile.plan.route import Partition

Clock = Callable[[], float]
COMMIT_EVERY = 1.0
STOPPING = 2.0
"""Seconds that a render which ends early gives its canvas to note that: `ray job stop` gives three in all."""
POLL = 0.25
"""Seconds after which the driver looks up from its calls: at signals, at the canvas, at who leaves."""
DOUBT = 10.0
"""Seconds after which a call that was given up for no known reason counts as the loss of its worker."""


class Watch(NamedTuple):
    """What a ref is of: a call on `worker`; of a phase, which a roll-back makes void, or not."""

    worker: int
    phase: bool


class Driver:
    """Renders the plan of `setup` with the workers of `pool`, which is connected and stays open.

    `begin` gives the canvas and its keeper: it is called once the first workers have loaded, so that what fails before
    leaves no trace. `clock` gives seconds that only go forward, `wall` seconds since 1970."""

    def __init__(
        self,
        setup: Setup,
        pool: Pool,
        begin: Callable[[], tuple[Canvas, Keeper]],
        listeners: Sequence[Listener],
        clock: Clock,
        wall: Clock,
        *,
        start: Start = FRESH,
        bounds: Bounds | None = None,
    ) -> None:
        self._setup, self._pool, self._begin, self._listeners = setup, pool, begin, listeners
        self._clock, self._wall = clock, wall
        self._flow = Flow(setup.plan, pool)
        self._bounds = bounds or Bounds(pool.least, pool.most, pool.ahead)
        everybody = pool.workers()
        self._state = RenderState(setup.plan, __version__, self._bounds, everybody, pool.placed(), start)
        self._tally = Tally(setup.plan, clock)
        self._canvas: Canvas | None = None
        self._keeper: Keeper | None = None
        self._janitor = ThreadPoolExecutor(1, "snapshot-janitor")
        self._cause: BaseException | None = None
        self._watched: dict[Ref, Watch] = {}
        self._doubts: dict[int, float] = {}
        self._hires: list[tuple[float, int]] = []
        self._leaving: set[int] = set()
        self._posted: dict[int, int] = {}  # snapshots on their way to the head, by the number of the change
        self._uncommitted: list[int] = []
        self._restored = 0  # members may still be reading the snapshot that they were last sent back to
        self._said = -1
        self._last_commit = 0.0

    def run(self) -> Canvas:
        """Render; returns the finished canvas.

        Raises what the first workers met while loading, with nothing written; later `RenderFailed` or
        `RenderCancelled`, and the canvas then says how far it came and can be gone on with. Ctrl-C and SIGTERM
        cancel; a second one does not wait for the step."""
        request, there = self._setup.plan.request, Partition(self._pool.workers()[: self._bounds.most])
        try:
            with Interrupts() as interrupts:
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
                self._loop(interrupts)
        except (RenderFailed, RenderCancelled):
            raise
        except KeyboardInterrupt:
            self._stop("cancelled", "stopped by the user")
            raise RenderCancelled(f"stopped; {self._how_far()}") from None
        except BaseException as error:
            self._stop("failed", first_line(error))
            raise
        finally:
            self._pool.cancel([*self._watched, *self._flow.in_flight()])
            self._janitor.shutdown(wait=False, cancel_futures=True)
            if self._keeper is not None:
                self._keeper.close()
        assert self._canvas is not None, "a finished render has a canvas"
        return self._canvas

    # -- what happens --------------------------------------------------------------------------------------------

    def _loop(self, interrupts: Interrupts) -> None:
        for worker in self._pool.workers():
            self._load(worker)
        while not self._state.over:
            if interrupts.asked:
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
            self._take(outcome.value[0] if isinstance(outcome.value, list) else outcome.value)

    def _hear(self) -> None:
        """What the keeper of the canvas has to tell."""
        for news in [] if self._keeper is None or self._state.over else self._keeper.news():
            match news:
                case Committed(number):
                    for change in [change for change in self._posted if change <= number]:
                        phase = self._posted.pop(change)
                        self._take(SnapshotWhole(phase))
                        if self._canvas is not None:
                            self._janitor.submit(self._canvas.drop_snapshots, (phase, self._restored))
                case CancelSeen():
                    self._take(CancelAsked())
                case Taken(why):
                    self._take(CanvasTaken(why))
                case Trouble(why):
                    self._tell(StoreTrouble(why))

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
        if self._state.status == "running" and now - self._last_commit > COMMIT_EVERY:
            self._commit()

    def _load(self, worker: int) -> None:
        self._watched[self._pool.load(worker, self._setup)] = Watch(worker, phase=False)

    def _take(self, event: Event) -> None:
        """Let the state machine have an event, then do what it says."""
        if self._state.over:
            return
        whole = self._state.whole
        self._tally.take(event)
        if isinstance(event, TileDone):
            self._uncommitted.append(event.tile)
        if isinstance(event, WorkerLost):
            self._doubts.pop(event.worker, None)
            self._watched = {ref: watch for ref, watch in self._watched.items() if watch.worker != event.worker}
        self._tell(event)
        instructions = self._state.handle(event)
        if self._state.whole > whole and self._state.members:
            self._progress()
        for instruction in instructions:
            self._do(instruction)

    # -- what is done about it -----------------------------------------------------------------------------------

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case RunPhase():
                reports = self._flow.submit(instruction)
                self._watched.update({ref: Watch(worker, phase=True) for ref, worker in reports.items()})
            case DecodeTile(worker, tile, again):
                self._open()
                (ref,) = self._pool.call(worker, "decode", tile, again)
                self._watched[ref] = Watch(worker, phase=False)
            case Restore(epoch, phase, partition):
                self._open()
                self._restored = phase
                self._flow.restore(instruction)
                if epoch > 1:
                    self._tell(RolledBack(epoch, phase, partition.members, self._tally.redone(), self._tally.why))
            case Regroup():
                self._regroup(instruction)
            case Abandon(_, redone, why):
                void = [ref for ref, watch in self._watched.items() if watch.phase]
                self._pool.cancel([*void, *self._flow.in_flight()])
                for ref in void:
                    del self._watched[ref]
                self._doubts.clear()
                self._tally.rolled_back(redone, why)
            case CommitSnapshot(phase):
                number = self._post(snapshot=phase)
                self._posted[number] = phase
            case CommitDenoised():
                self._tally.mark("denoised")
                self._post(denoised=True, snapshot=None)
            case Hire(count, delay):
                self._hires.append((self._clock() + delay, count))
            case Release(worker, why, member):
                self._pool.release(worker)
                self._watched = {ref: watch for ref, watch in self._watched.items() if watch.worker != worker}
                if member or why != IDLE:
                    left = WorkerLeft(worker, self._state.members, why)
                    self._tally.take(left)
                    self._tell(left)
            case Finish():
                self._finish()
            case Fail(why):
                self._stop("failed", why)
                if self._keeper is None:
                    raise self._cause if isinstance(self._cause, RaytileError) else ClusterError(why)
                raise RenderFailed(f"{why}; {self._how_far()}") from self._cause
            case Cancel():
                self._stop("cancelled", "stopped by the user")
                raise RenderCancelled(f"stopped; {self._how_far()}")

    def _regroup(self, to: Regroup) -> None:
        self._flow.regroup(to)
        level = self._setup.plan.levels[self._state.course[to.phase].level]
        moved = int((to.before.owners(level.tiling) != to.after.owners(level.tiling)).sum())
        regrouped = Regrouped(to.epoch, to.phase, to.after.members, moved, to.why)
        joined = [WorkerJoined(w, to.after.members) for w in to.after.members if w not in to.before.members]
        events: tuple[Event, ...] = (*joined, regrouped)
        for event in events:
            self._tally.take(event)
            self._tell(event)

    def _open(self) -> None:
        """The canvas comes into being, or is told that work on it begins."""
        if self._keeper is None:
            self._canvas, self._keeper = self._begin()
            self._tally.mark("loaded")
            self._last_commit = self._clock()

    def _finish(self) -> None:
        assert self._canvas is not None
        assert self._keeper is not None
        summary = self._tally.summary(self._setup, self._flow.bytes_planned)
        self._commit(state="finished", denoised=True, snapshot=None, summary=summary)
        if not self._keeper.flush(store_deadline()):
            raise RenderFailed(
                f"all tiles are painted, but {self._setup.canvas} could not be told: raytile resume will do that"
            )
        with suppress(CanvasError):
            self._canvas.drop_snapshots()
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

    def _post(self, **changes: object) -> int:
        """Have the keeper change the head so; the number of the change."""
        assert self._keeper is not None
        return self._keeper.post(lambda head: head.but(**changes))

    def _commit(self, **changes: object) -> None:
        """Say on the head how far the canvas is; finished tiles are added in batches."""
        if self._keeper is None:
            return
        state, tiles = self._state, tuple(self._uncommitted)
        self._last_commit = self._clock()
        if state.whole == self._said and not tiles and not changes:
            return
        at = state.course[min(state.whole, len(state.course) - 1)]
        also = {"level": at.level, "step": at.step, "device_digest": state.probe, "workers": len(state.ready)}
        self._keeper.post(lambda head: head.with_tiles(tiles, self._wall()).but(**{**also, **changes}))
        self._uncommitted.clear()
        self._said = state.whole

    def _stop(self, state: str, why: str) -> None:
        """Say on the head that the render ended; where even that fails, what ended it is still what is told."""
        with suppress(CanvasError):
            self._commit(state=state, error=why)
            if self._keeper is not None:
                self._keeper.flush(STOPPING)
        self._tell(RenderStopped(self._setup.canvas, why))

    def _how_far(self) -> str:
        if self._canvas is None:
            return "nothing was written"
        path = self._setup.canvas
        try:
            head = self._canvas.head()
        except CanvasError as error:
            return f"and the canvas cannot be read: {error}"
        return (
            f"the canvas {path} is {head.state} and keeps {head.done} of {head.tiles_total} tiles "
            f"(level {head.level + 1} of {head.levels}, step {head.step} of {head.steps}): raytile resume goes on"
        )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
