"""The loop of a render: waits for what happens, asks the state machine what next, and makes it so. No torch here."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field

from raytile.canvas.canvas import Canvas
from raytile.canvas.digest import combine
from raytile.engine.flow import Flow
from raytile.engine.pool import Pool, Ref, Setup
from raytile.engine.state import Cancel, DecodeTile, Fail, Finish, Instruction, RenderState, RunPhase
from raytile.errors import RenderCancelled, RenderFailed
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
from raytile.plan.cost import foretell, step_work
from raytile.plan.phases import phases

Clock = Callable[[], float]
COMMIT_EVERY = 1.0


@dataclass
class Driver:
    """Renders the plan of `setup` with the workers of `pool` onto `canvas`, which is there and empty.

    `clock` gives seconds that only go forward, `wall` seconds since 1970. `ahead` phases are submitted beyond the
    slowest worker."""

    setup: Setup
    pool: Pool
    canvas: Canvas
    listeners: tuple[Listener, ...]
    clock: Clock
    wall: Clock
    ahead: int = 4
    _watched: dict[Ref, int] = field(default_factory=dict)
    _counts: dict[int, Counts] = field(default_factory=dict)
    _tiles: dict[int, TileDone] = field(default_factory=dict)
    _uncommitted: list[int] = field(default_factory=list)
    _marks: dict[str, float] = field(default_factory=dict)

    def run(self) -> Canvas:
        """Render; returns the finished canvas. Raises `RenderFailed` or `RenderCancelled`; the canvas then says so."""
        plan, partition = self.setup.plan, self.setup.partition
        self._course = phases(plan)
        self._flow = Flow(plan, partition, self.pool)
        everyone = range(partition.workers)
        self._state = RenderState([partition.tiles(plan.tiling, k) for k in everyone], len(self._course), self.ahead)
        self._marks["start"] = self._last_commit = self.clock()
        self._tell(
            RenderStarted(
                canvas=str(self.canvas.path),
                width=plan.request.width,
                height=plan.request.height,
                workers=partition.workers,
                levels=len(plan.levels),
                phases=len(self._course),
                tiles=plan.tiling.count,
                work=step_work(plan, partition),
            )
        )
        try:
            self._watched = {ref: worker for worker, ref in enumerate(self.pool.start(self.setup))}
            while self._state.status in ("starting", "running"):
                for outcome in self.pool.wait(list(self._watched), timeout=1.0):
                    worker = self._watched.pop(outcome.ref)
                    if outcome.error is not None:
                        self._cause = outcome.error
                        self._take(WorkerLost(worker, _line(outcome.error)))
                    else:
                        self._take(outcome.value[0] if isinstance(outcome.value, list) else outcome.value)
        except KeyboardInterrupt:
            self._take(CancelAsked())
        except (RenderFailed, RenderCancelled):
            raise
        except BaseException as error:
            self._stop("failed", _line(error))
            raise
        finally:
            self.pool.close()
        return self.canvas

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
        if self._state.status == "running" and self.clock() - self._last_commit > COMMIT_EVERY:
            self._commit()

    def _do(self, instruction: Instruction) -> None:
        if isinstance(instruction, RunPhase):
            self._marks.setdefault("loaded", self.clock())
            refs = self._flow.submit(instruction.phase)
            self._watched.update({ref: worker for worker, ref in enumerate(refs)})
        elif isinstance(instruction, DecodeTile):
            (ref,) = self.pool.call(instruction.worker, "decode", instruction.tile)
            self._watched[ref] = instruction.worker
        elif isinstance(instruction, Finish):
            self._commit(state="finished", summary=self._summary())
            self._tell(RenderFinished(str(self.canvas.path), self.clock() - self._marks["start"]))
        elif isinstance(instruction, Fail):
            self._stop("failed", instruction.why)
            raise RenderFailed(f"{instruction.why}; {self._how_far()}") from getattr(self, "_cause", None)
        elif isinstance(instruction, Cancel):
            self._stop("cancelled", "stopped by the user")
            raise RenderCancelled(f"stopped; {self._how_far()}")

    def _progress(self) -> None:
        """All workers are past a phase: tell listeners if it was a step."""
        phase = self._course[self._state.whole - 1]
        if self._state.whole == len(self._course) - 1:
            self._marks["denoised"] = self.clock()
        if phase.kind != "step":
            return
        level = self.setup.plan.levels[phase.level]
        self._tell(
            StepDone(
                level=phase.level,
                levels=len(self.setup.plan.levels),
                step=phase.step - level.first_step + 1,
                steps=level.steps - level.first_step,
                done=sum(1 for p in self._course[: self._state.whole] if p.kind == "step"),
                total=sum(1 for p in self._course if p.kind == "step"),
            )
        )

    def _commit(self, **changes: object) -> None:
        """Say on the head how far the canvas is; finished tiles are added in batches."""
        whole = self._state.whole
        at = self._course[min(whole, len(self._course) - 1)]
        ready = self._state.ready
        changes.setdefault("device_digest", ready[min(ready)].probe if ready else None)
        self.canvas.commit(
            lambda head: head.with_tiles(self._uncommitted, self.wall()).but(level=at.level, step=at.step, **changes)
        )
        self._uncommitted.clear()
        self._last_commit = self.clock()

    def _stop(self, state: str, why: str) -> None:
        self._commit(state=state, error=why)
        self._tell(RenderStopped(str(self.canvas.path), why))

    def _how_far(self) -> str:
        head = self.canvas.head()
        return (
            f"the canvas {self.canvas.path} keeps {head.done} of {head.tiles_total} tiles "
            f"(level {head.level + 1} of {head.levels}, step {head.step} of {head.steps})"
        )

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _summary(self) -> dict[str, object]:
        """The figures of the run, counted by the workers; those that the plan foretold stand beside them."""
        plan, now, marks = self.setup.plan, self.clock(), self._marks
        foretold = foretell(plan, self.setup.partition)
        counts = self._counts.values()
        evaluations = sum(c.rows - c.rows_padded for c in counts)
        tiles = [self._tiles[tile] for tile in range(plan.tiling.count)]
        return {
            "canvas": str(self.canvas.path),
            "width": plan.request.width,
            "height": plan.request.height,
            "model": plan.request.model,
            "seed": plan.request.seed,
            "sync": plan.request.sync,
            "workers": self.setup.partition.workers,
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
                "driver": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "workers": [self._counts[k].peak_rss_bytes for k in sorted(self._counts)],
            },
            "restarts": 0,
            "steps_redone": 0,
        }


def _line(error: BaseException) -> str:
    """The last line of an error, which names the cause."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[-1] if text else ''}".strip()
