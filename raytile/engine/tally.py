"""The figures of a run, counted from its events. No torch here."""

from __future__ import annotations

from collections.abc import Callable

from raytile.canvas.digest import combine
from raytile.engine.memory import peak_rss_bytes
from raytile.engine.pool import Setup
from raytile.events import (
    Counts,
    Event,
    PhaseDone,
    PreviewPart,
    PreviewStored,
    Regrouped,
    RolledBack,
    SnapshotWhole,
    TileDone,
    WorkerHired,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerReady,
)
from raytile.plan.cost import foretell
from raytile.plan.plan import Plan
from raytile.plan.route import Partition


class Tally:
    """Takes in every event of a render; `summary` is what `raytile info` and `--json` show of it."""

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        self._plan, self._clock = plan, clock
        self._marks = {"start": clock()}
        self._counts: dict[int, Counts] = {}
        self._here: dict[int, tuple[float, float | None]] = {}  # since when, and until when
        self._tiles: dict[int, TileDone] = {}
        self._restarts = self._rollbacks = self._joins = self._leaves = self._moves = self._steps_redone = 0
        self._last = 0, 0, ""
        self._snapshots, self._snapshot_seconds, self._snapshot_bytes = 0, 0.0, 0
        self._shown: dict[tuple[int, int, int], int] = {}  # tiles by epoch, level and step

    def take(self, event: Event) -> None:
        match event:
            case WorkerReady(worker):
                self._counts[worker] = Counts(peak_rss_bytes=event.peak_rss_bytes)
                self._here[worker] = self._clock(), None
            case WorkerHired():
                self._restarts += 1
            case WorkerLost(worker):
                self._gone(worker)
            case WorkerLeft(worker):
                self._leaves += 1
                self._gone(worker)
            case WorkerJoined():
                self._joins += 1
            case Regrouped():
                self._moves += event.moves
            case SnapshotWhole():
                self._snapshots += 1
            case PhaseDone(worker):
                self._counts[worker] = event.counts
                for stored in event.stored:
                    self._snapshot_seconds += stored.seconds
                    self._snapshot_bytes += stored.bytes
            case TileDone(worker, tile):
                self._counts[worker] = event.counts
                self._tiles[tile] = event

    def shown(self, part: PreviewPart) -> PreviewStored | None:
        """A worker has shown its part of a preview; the preview, if with it all tiles are shown."""
        key = part.epoch, part.level, part.step
        self._shown[key] = self._shown.get(key, 0) + part.tiles
        plan = self._plan
        wanted = int(plan.active.sum()) if plan.partial else plan.levels[part.level].tiling.count
        return PreviewStored(part.level, part.step) if self._shown[key] == wanted else None

    def mark(self, name: str) -> None:
        """This moment has a name; only the last of a name counts."""
        self._marks[name] = self._clock()

    def rolled_back(self, steps_redone: int, lag: int, why: str) -> None:
        """A member was lost, and so many steps will be done again."""
        self._rollbacks += 1
        self._steps_redone += steps_redone
        self._last = steps_redone, lag, why

    def rolled_back_to(self, epoch: int, phase: int, members: tuple[int, ...]) -> RolledBack:
        """The event of the last roll-back, and who goes on."""
        return RolledBack(epoch, phase, members, *self._last)

    def began(self) -> bool:
        """Whether the first workers have loaded."""
        return "loaded" in self._marks

    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._marks["start"]

    def _gone(self, worker: int) -> None:
        if worker in self._here:
            self._here[worker] = self._here[worker][0], self._clock()

    def _busy_share(self, worker: int) -> float:
        since, until = self._here[worker]
        there = (self._clock() if until is None else until) - max(since, self._marks["loaded"])
        return min(1.0, self._counts[worker].busy_seconds / there) if there > 0 else 0.0

    def summary(self, setup: Setup, bytes_planned: int) -> dict[str, object]:
        """The figures of the run, counted by the workers; those that the plan foretold stand beside them."""
        plan, now, marks = self._plan, self._clock(), self._marks
        loaded = marks["loaded"]
        denoised = marks.get("denoised", loaded)
        counts = [self._counts[worker] for worker in sorted(self._counts)]
        evaluations = sum(c.rows - c.rows_padded for c in counts)
        tiles = [self._tiles[tile] for tile in range(plan.tiling.count)]
        return {
            "canvas": setup.canvas,
            "width": plan.request.width,
            "height": plan.request.height,
            "model": plan.request.model,
            "seed": plan.request.seed,
            "sync": plan.request.sync,
            "workers": len(counts),
            "evaluations": evaluations,
            "evaluations_padded": sum(c.rows for c in counts),
            "evaluations_planned": foretell(plan, Partition.even(1)).evaluations,
            "evaluations_per_megapixel": evaluations / (plan.request.width * plan.request.height / 1e6),
            "bytes_exchanged": sum(c.bytes_received for c in counts),
            "bytes_planned": bytes_planned,
            "seconds": {
                "total": now - marks["start"],
                "load": loaded - marks["start"],
                "denoise": denoised - loaded,
                "decode": now - denoised,
            },
            "busy_seconds": [c.busy_seconds for c in counts],
            "busy_share": [self._busy_share(worker) for worker in sorted(self._counts)],
            "latents_sha256": combine(tile.latents_sha256 for tile in tiles),
            "pixels_sha256": combine(tile.pixels_sha256 for tile in tiles),
            "peak_rss_bytes": {"driver": peak_rss_bytes(), "workers": [c.peak_rss_bytes for c in counts]},
            "restarts": self._restarts,
            "rollbacks": self._rollbacks,
            "joins": self._joins,
            "leaves": self._leaves,
            "moves": self._moves,
            "steps_redone": self._steps_redone,
            "snapshots": {
                "count": self._snapshots,
                "seconds": self._snapshot_seconds,
                "bytes": self._snapshot_bytes,
            },
        }
