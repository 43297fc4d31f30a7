"""What a cluster shows Prometheus of its renders: events in, series out, through Ray's own exporter on every node.

The only file that knows both events and Ray's metrics; names are in `series`, and `meter` adds up."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from raytile import __version__
from raytile.errors import RenderCancelled, first_line
from raytile.events import (
    Counts,
    Event,
    Listener,
    PhaseDone,
    Regrouped,
    RenderStarted,
    RolledBack,
    SnapshotWhole,
    StepDone,
    StoreTrouble,
    TileDone,
    WorkerHired,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerReady,
    WorkerReleased,
)
from raytile.meter import Batch, Book, Key, Meter, Worker, key
from raytile.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Collection

LOG = logging.getLogger("raytile.metrics")
NAME, SPACE = f"raytile-metrics-{__version__}", "raytile"
"""The actor, by version: what is sent to it is what this version means."""
EVERY = 1.0
"""Seconds from batch to batch, and from one look of the meter to the next. Ray exports no more often."""


LAST = 5.0
"""Seconds that a render waits at most for its last batch to be taken."""


@dataclass(frozen=True)
class About:
    """What events do not say of a render: its model's name, the pixels of each tile, and which phases are steps."""

    model: str
    pixels: Callable[[int], int]
    steps: Collection[int]


@dataclass
class _Here:
    """A worker of the render: who it is, until when its time was told, and its totals so far."""

    who: Worker
    since: float
    told: dict[Key, float] = field(default_factory=lambda: defaultdict(float))


class Metrics:
    """The listener: writes what happens in one render into a book. `lent`: workers and renders belong to a supervisor,
    which tells of them itself. `price`: of an hour of a worker. `clock`: seconds that only go forward."""

    def __init__(
        self, about: About, clock: Callable[[], float], lent: bool = False, price: float | None = None
    ) -> None:
        self._about, self._clock, self._lent, self._price = about, clock, lent, price
        self._book = Book()
        self._lock = threading.Lock()  # events come in one thread, batches go out in another
        self._began = clock()
        self._expected = 0
        self._here: dict[int, _Here] = {}
        self._steps: int | None = None
        self._tiles: set[int] = set()
        self._count("raytile_evaluations_total", 0, model=about.model)
        self._count("raytile_pixels_total", 0, model=about.model)
        if price is not None and not lent:
            self._count("raytile_cost_total", 0)
        self._state()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)
            self._state()

    def batch(self) -> Batch:
        """What is to be told now."""
        with self._lock:
            for here in self._here.values():
                self._accrue(here)
            return self._book.batch()

    def end(self, state: Literal["finished", "failed", "cancelled"]) -> None:
        """The render is over: nothing of it is there any more."""
        with self._lock:
            for worker in list(self._here):
                self._gone(worker)
            self._expected = 0
            self._state(running=0)
            if not self._lent:
                self._count("raytile_renders_ended_total", state=state)
                self._book.observe("raytile_render_seconds", self._clock() - self._began, state=state)

    def _take(self, event: Event) -> None:
        match event:
            case RenderStarted():
                self._expected = event.workers
            case WorkerReady(worker):
                here = self._here[worker] = _Here((event.node, event.pid), self._clock())
                self._memory(here, event.peak_rss_bytes, 0)
            case WorkerHired():
                self._expected += 1
                self._change("hired")
            case WorkerJoined():
                self._change("joined")
            case WorkerLost(worker):
                self._gone(worker)
                self._change("lost")
            case WorkerLeft(worker):
                self._gone(worker)
                self._change("left")
            case WorkerReleased(worker):
                self._gone(worker)
            case Regrouped():
                self._count("raytile_tiles_moved_total", event.moves)
            case RolledBack() if event.members:  # told once more when nobody was left: who goes on came later
                self._count("raytile_rollbacks_total")
                self._count("raytile_steps_redone_total", event.steps_redone)
            case SnapshotWhole():
                self._count("raytile_snapshots_total")
            case StepDone():
                self._steps = event.done - 1 if self._steps is None else self._steps
                self._count("raytile_steps_total", max(0, event.done - self._steps))
                self._steps = max(self._steps, event.done)
            case PhaseDone(worker) if worker in self._here:
                self._counted(self._here[worker], event.counts)
                if event.phase in self._about.steps:
                    self._book.work(self._here[worker].who, "raytile_worker_steps_total", 1)
                for stored in event.stored:
                    self._count("raytile_snapshot_bytes_total", stored.bytes)
                    self._count("raytile_snapshot_seconds_total", stored.seconds)
            case TileDone(worker, tile):
                if worker in self._here:
                    self._counted(self._here[worker], event.counts)
                if tile not in self._tiles:
                    self._tiles.add(tile)
                    self._count("raytile_tiles_total")
                    self._count("raytile_pixels_total", self._about.pixels(tile), model=self._about.model)
            case StoreTrouble():
                self._count("raytile_store_errors_total")

    def _counted(self, here: _Here, counts: Counts) -> None:
        """What a worker's totals say that they did not say before."""
        for name, total, labels in (
            ("raytile_evaluations_total", counts.rows - counts.rows_padded, {"model": self._about.model}),
            ("raytile_exchanged_bytes_total", counts.bytes_received, {}),
            ("raytile_store_errors_total", counts.store_errors, {}),
        ):
            self._count(name, _risen(here, key(name, labels), total), **labels)
        parts = "raytile_worker_part_seconds_total"
        for name, seconds, labels in (
            ("raytile_worker_busy_seconds_total", counts.busy_seconds, {}),
            (parts, counts.predict_seconds, {"part": "predict"}),
            (parts, counts.wait_seconds, {"part": "wait"}),
            (parts, counts.exchange_seconds, {"part": "exchange"}),
            (parts, counts.decode_seconds, {"part": "decode"}),
            (parts, counts.write_seconds, {"part": "write"}),
        ):
            self._book.work(here.who, name, _risen(here, key(name, labels), seconds), **labels)
        self._memory(here, counts.peak_rss_bytes, counts.peak_device_bytes)

    def _memory(self, here: _Here, rss: int, device: int) -> None:
        self._book.holds(here.who, "raytile_worker_memory_bytes", rss, kind="rss")
        self._book.holds(here.who, "raytile_worker_memory_bytes", device, kind="device")

    def _gone(self, worker: int) -> None:
        self._expected -= 1
        here = self._here.pop(worker, None)
        if here is not None:
            self._accrue(here)
            self._book.parted(here.who)

    def _accrue(self, here: _Here) -> None:
        seconds, here.since = self._clock() - here.since, self._clock()
        self._book.work(here.who, "raytile_worker_seconds_total", seconds)
        if self._price is not None and not self._lent:
            self._count("raytile_cost_total", seconds / 3600 * self._price)

    def _state(self, running: int = 1) -> None:
        if not self._lent:
            self._book.gauge("raytile_renders", running, state="running")
            self._book.gauge("raytile_workers", len(self._here), state="working")
            self._book.gauge("raytile_workers", max(0, self._expected - len(self._here)), state="coming")

    def _change(self, kind: str) -> None:
        self._count("raytile_worker_changes_total", kind=kind)

    def _count(self, name: str, by: float = 1.0, **labels: str) -> None:
        self._book.count(name, by, **labels)


def _risen(here: _Here, of: Key, total: float) -> float:
    """By how much a total has risen; a worker that was called off in the midst may have counted less."""
    more = max(0.0, total - here.told[of])
    here.told[of] += more
    return more


# -- the seam to Ray ----------------------------------------------------------------------------------------------


class RayInstruments:
    """Metrics of this process, which the agent of its node shows as `ray_` + name."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        kinds = {"counter": Counter, "gauge": Gauge, "rising": Gauge}
        self._made: dict[str, Any] = {
            name: Histogram(name, one.words, boundaries=list(one.buckets), tag_keys=tuple(one.labels))
            if one.kind == "histogram"
            else kinds[one.kind](name, one.words, tag_keys=tuple(one.labels))
            for name, one in SERIES.items()
        }

    def count(self, of: Key, by: float) -> None:
        # `inc` refuses 0, by which a series begins: one that begins with its first rise hides that from rate().
        self._made[of[0]]._record(float(by), dict(of[1]))

    def gauge(self, of: Key, value: float) -> None:
        self._made[of[0]].set(float(value), dict(of[1]))

    def observe(self, of: Key, value: float) -> None:
        self._made[of[0]].observe(float(value), dict(of[1]))


class MeterActor:
    """The meter of a cluster, on its head node, for as long as the cluster lives."""

    def __init__(self) -> None:
        self._meter = Meter(RayInstruments(), time.monotonic)
        threading.Thread(target=self._look, name="look", daemon=True).start()

    def take(self, source: str, batch: Batch, over: bool) -> None:
        self._meter.take(source, batch, over)

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            self._meter.look()


Send = Callable[[Batch, bool], None]
"""Has a meter take a batch, and whether it is the last."""


def shared_meter(source: str) -> Send:
    """The meter of the cluster, which is there from now on. `source`: who sends, by a name that nobody else has."""
    import ray

    kind = ray.remote(MeterActor).options(
        name=NAME,
        namespace=SPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
        max_restarts=-1,
    )
    actor: Any = kind.remote()
    last: list[Any] = []

    def send(batch: Batch, over: bool) -> None:
        if last and ray.wait(last, timeout=0)[0]:
            ray.get(last[0])  # raises if the meter is no more
        last[:] = [actor.take.remote(source, batch, over)]
        if over:  # this process may end now, and the meter be still on its way
            ray.wait(last, timeout=LAST)

    return send


def own_meter(source: str) -> Send:
    """A meter in this process: a Ray that ends with it needs no other."""
    meter = Meter(RayInstruments(), time.monotonic)

    def send(batch: Batch, over: bool) -> None:
        meter.take(source, batch, over)
        meter.look()

    return send


class Reporter:
    """Sends what `batch` gives to the meter that `find` finds, again and again until it is closed. Whatever becomes of
    that, no render suffers: it is done beside."""

    def __init__(self, batch: Callable[[], Batch], find: Callable[[], Send]) -> None:
        self._batch, self._find = batch, find
        self._send: Send | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the last."""
        self._over.set()
        self._thread.join(LAST + EVERY)

    def _run(self) -> None:
        over = False
        while True:
            try:
                self._send = self._send or self._find()
                self._send(self._batch(), over)
            except Exception as error:
                LOG.debug("no metrics: %s", first_line(error))
                self._send = None  # there may be another meter by now
            if over:
                return
            over = self._over.wait(EVERY)


@contextmanager
def metered(
    cluster: Literal["none", "own", "shared"], source: str, about: About, lent: bool, price: float | None
) -> Iterator[list[Listener]]:
    """The listeners that tell a cluster of one render, which is over when this is left. `cluster`: a Ray that ends with
    this process, or one that others use; `source`: a name of this render that no other has."""
    if cluster == "none":
        yield []
        return
    metrics = Metrics(about, time.monotonic, lent, price)
    meter = own_meter if cluster == "own" else shared_meter
    reporter = Reporter(metrics.batch, lambda: meter(source))
    try:
        yield [metrics]
    except BaseException as error:
        metrics.end("cancelled" if isinstance(error, RenderCancelled) else "failed")
        raise
    else:
        metrics.end("finished")
    finally:
        reporter.close()
