"""The loop of a render: waits for what happens, asks the state machine what next, and makes it so. No torch here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from raytile import __version__
from raytile.canvas.canvas import Canvas
from raytile.canvas.digest import combine
from raytile.engine.flow import Flow
from raytile.engine.interrupts import Interrupts
from raytile.engine.memory import peak_rss_bytes
from raytile.engine.pool import Pool, Ref, Setup
from raytile.engine.state import Cancel, DecodeTile, Fail, Finish, Instruction, RenderState, RunPhase
from raytile.errors import CanvasError, ClusterError, RaytileError, RenderCancelled, RenderFailed, first_line
from raytile.events import (
    CancelAsked,
    Counts,
    Event,
    Listener,
    PhaseDone,
    RenderFinished,
    RenderStarted,
    RenderStopped,
    StepDone,
    TileDone,
    WorkerLost,
    WorkerReady,
)
from raytile.plan.cost import foretell
from raytile.plan.phases import phases

Clock = Callable[[], float]
COMMIT_EVERY = 1.0


class Driver:
    """Renders the plan of `setup` with the workers of `pool`, which is connected.

    `create` makes the canvas: it is called once every worker has loaded, so that what fails before leaves no trace.
    `clock` gives seconds that only go forward, `wall` seconds since 1970. `ahead` phases (the pool's own figure if not
    given) are submitted beyond the slowest worker."""

    def __init__(
        self,
        setup: Setup,
        pool: Pool,
        create: Callable[[], Canvas],
        listeners: Sequence[Listener],
        clock: Clock,
        wall: Clock,
        ahead: int | None = None,
    ) -> None:
        plan, partition = setup.plan, setup.partition
        self._setup, self._pool, self._create, self._listeners = setup, pool, create, listeners
        self._clock, self._wall = clock, wall
        self._course = phases(plan)
        self._flow = Flow(plan, partition, pool)
        tiles = [partition.tiles(plan.tiling, worker) for worker in range(partition.workers)]
        self._state = RenderState(tiles, len(self._course), ahead or pool.ahead, __version__)
        self._cost = foretell(plan, partition)
        self._canvas: Canvas | None = None
        self._cause: BaseException | None = None
        self._watched: dict[Ref, int] = {}
        self._counts: dict[int, Counts] = {}
        self._tiles: dict[int, TileDone] = {}
        self._uncommitted: list[int] = []
        self._marks: dict[str, float] = {}
        self._last_commit = 0.0

    def run(self) -> Canvas:
        """Render; returns the finished canvas.

        Raises what a worker met while loading, with nothing written; later `RenderFailed` or `RenderCancelled`, and
        the canvas then says how far it came. Ctrl-C and SIGTERM cancel; a second one does not wait for the step."""
        plan, partition = self._setup.plan, self._setup.partition
        self._marks["start"] = self._clock()
        try:
            with Interrupts() as interrupts:
                self._tell(
                    RenderStarted(
                        canvas=self._setup.canvas,
                        width=plan.request.width,
                        height=plan.request.height,
                        workers=partition.workers,
                        levels=len(plan.levels),
                        phases=len(self._course),
                        tiles=plan.tiling.count,
                        work=self._cost.work,
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
            self._pool.close()
        assert self._canvas is not None, "a finished render has a canvas"
        return self._canvas

    def _loop(self, interrupts: Interrupts) -> None:
        self._watched = {ref: worker for worker, ref in enumerate(self._pool.start(self._setup))}
        while self._state.status in ("starting", "running"):
            if interrupts.asked:
                self._take(CancelAsked())
            for outcome in self._pool.wait(list(self._watched), timeout=1.0):
                worker = self._watched.pop(outcome.ref)
                if outcome.error is not None:
                    self._cause = outcome.error
                    words = "was lost, or waited for one that was" if outcome.lost else "failed"
                    self._take(WorkerLost(worker, f"{words}: {first_line(outcome.error)}"))
                else:
                    self._take(outcome.value[0] if isinstance(outcome.value, list) else outcome.value)

    def _take(self, event: Event) -> None:
        """Let the state machine have an event, then do what it says."""
        whole = self._state.whole
        if isinstance(event, WorkerReady):
            self._counts[event.worker] = Counts(peak_rss_bytes=event.peak_rss_bytes)
        elif isinstance(event, PhaseDone | TileDone):
            self._counts[event.worker] = event.counts
        if isinstance(event, TileDone):
            self._tiles[event.tile] = event
            self._uncommitted.append(event.tile)
        self._tell(event)
        instructions = self._state.handle(event)
        if self._state.whole > whole:
            self._progress()
        for instruction in instructions:
            self._do(instruction)
        if self._state.status == "running" and self._clock() - self._last_commit > COMMIT_EVERY:
            self._commit()

    def _do(self, instruction: Instruction) -> None:
        if isinstance(instruction, RunPhase):
            if self._canvas is None:
                self._canvas = self._create()
                self._marks["loaded"] = self._last_commit = self._clock()
            refs = self._flow.submit(instruction.phase)
            self._watched.update({ref: worker for worker, ref in enumerate(refs)})
        elif isinstance(instruction, DecodeTile):
            (ref,) = self._pool.call(instruction.worker, "decode", instruction.tile)
            self._watched[ref] = instruction.worker
        elif isinstance(instruction, Finish):
            self._commit(state="finished", summary=self._summary())
            self._tell(RenderFinished(self._setup.canvas, self._clock() - self._marks["start"]))
        elif isinstance(instruction, Fail):
            self._stop("failed", instruction.why)
            if self._canvas is None:
                raise self._cause if isinstance(self._cause, RaytileError) else ClusterError(instruction.why)
            raise RenderFailed(f"{instruction.why}; {self._how_far()}") from self._cause
        elif isinstance(instruction, Cancel):
            self._stop("cancelled", "stopped by the user")
            raise RenderCancelled(f"stopped; {self._how_far()}")

    def _progress(self) -> None:
        """All workers are past a phase: tell listeners if it was a step."""
        phase = self._course[self._state.whole - 1]
        if self._state.whole == len(self._course) - 1:
            self._marks["denoised"] = self._clock()
        if phase.kind != "step":
            return
        level = self._setup.plan.levels[phase.level]
        self._tell(
            StepDone(
                level=phase.level,
                levels=len(self._setup.plan.levels),
                step=phase.step - level.first_step + 1,
                steps=level.steps - level.first_step,
                done=sum(1 for p in self._course[: self._state.whole] if p.kind == "step"),
                total=sum(1 for p in self._course if p.kind == "step"),
            )
        )

    def _commit(self, **changes: object) -> None:
        """Say on the head how far the canvas is; finished tiles are added in batches."""
        if self._canvas is None:
            return
        at = self._course[min(self._state.whole, len(self._course) - 1)]
        probe = self._state.ready[min(self._state.ready)].probe
        self._canvas.commit(
            lambda head: head.with_tiles(self._uncommitted, self._wall()).but(
                level=at.level, step=at.step, device_digest=probe, **changes
            )
        )
        self._uncommitted.clear()
        self._last_commit = self._clock()

    def _stop(self, state: str, why: str) -> None:
        """Say on the head that the render ended; where even that fails, what ended it is still what is told."""
        with contextlib.suppress(CanvasError):
            self._commit(state=state, error=why)
        self._tell(RenderStopped(self._setup.canvas, why))

    def _how_far(self) -> str:
        if self._canvas is None:
            return "nothing was written"
        try:
            head = self._canvas.head()
        except CanvasError as error:
            return f"and the canvas cannot be read: {error}"
        return (
            f"the canvas {self._canvas.path} is {head.state} and keeps {head.done} of {head.tiles_total} tiles "
            f"(level {head.level + 1} of {head.levels}, step {head.step} of {head.steps})"
        )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _summary(self) -> dict[str, object]:
        """The figures of the run, counted by the workers; those that the plan foretold stand beside them."""
        plan, now, marks = self._setup.plan, self._clock(), self._marks
        foretold = self._cost
        counts = self._counts.values()
        evaluations = sum(c.rows - c.rows_padded for c in counts)
        tiles = [self._tiles[tile] for tile in range(plan.tiling.count)]
        return {
            "canvas": self._setup.canvas,
            "width": plan.request.width,
            "height": plan.request.height,
            "model": plan.request.model,
            "seed": plan.request.seed,
            "sync": plan.request.sync,
            "workers": self._setup.partition.workers,
            "evaluations": evaluations,
            "evaluations_padded": sum(c.rows for c in counts),
            "evaluations_planned": foretold.evaluations,
            "evaluations_per_megapixel": evaluations / (plan.request.width * plan.request.height / 1e6),
            "bytes_exchanged": sum(c.bytes_received for c in counts),
            "bytes_planned": foretold.bytes,
            "seconds": {
                "total": now - marks["start"],
                "load": marks["loaded"] - marks["start"],
                "denoise": marks["denoised"] - marks["loaded"],
                "decode": now - marks["denoised"],
            },
            "busy_seconds": [self._counts[k].busy_seconds for k in sorted(self._counts)],
            "latents_sha256": combine(tile.latents_sha256 for tile in tiles),
            "pixels_sha256": combine(tile.pixels_sha256 for tile in tiles),
            "peak_rss_bytes": {
                "driver": peak_rss_bytes(),
                "workers": [self._counts[k].peak_rss_bytes for k in sorted(self._counts)],
            },
            "restarts": 0,
            "steps_redone": 0,
        }
