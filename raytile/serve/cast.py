"""Supervisor, drivers and workers as Ray actors. Who owns whom: the supervisor all others, so that they end with it."""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from raytile import __version__
from raytile.engine.ray.draining import Draining
from raytile.engine.ray.lent import Grant, LentPool, Loans
from raytile.engine.ray.verdict import Place
from raytile.errors import CanvasError, first_line
from raytile.events import Event, StepDone
from raytile.meter import Batch, Book
from raytile.metrics import Reporter, shared_meter
from raytile.serve.desk import open_records
from raytile.serve.leases import BEATS
from raytile.serve.painting import Result, paint
from raytile.serve.records import Record
from raytile.serve.settings import Settings
from raytile.serve.stage import Came, Closed, News, Progress, Returned, Went
from raytile.serve.supervisor import Supervisor

LOG = logging.getLogger("raytile.serve")
CONTROL = "control"
SPARE = 2
"""Drivers without work that are kept as long as warm workers are."""
CREW = 64
"""Workers that a render can take in, should the cluster grow so far."""
PATIENCE = 30.0
"""Seconds in which a worker has to put away what it had."""
TURN = 0.2
"""Seconds between two rounds of the supervisor when nothing happens."""
ABSENT = 120.0
"""Seconds without a word of any replica after which there is no service any more."""
PACE = 0.25
"""Seconds between two reports of how far a render is."""


class Conductor:
    """The driver of one render at a time, in a process of its own."""

    def __init__(self, settings: Settings, boss: Any) -> None:
        self._settings, self._boss = settings, boss
        self._records = open_records(settings, time.time)
        self._loans: dict[str, Loans] = {}
        self._stopped: set[str] = set()
        self._id = ""
        self._told = 0.0

    def paint(self, record: Record, most: int) -> Result:
        """Paint a claimed record by up to `most` workers that are lent."""
        self._id, self._told, run = record.id, 0.0, run_of(record)
        pool = LentPool(self._loans.setdefault(run, Loans()), self, min(most, record.useful))
        try:
            with tempfile.TemporaryDirectory(prefix="raytile-render-") as scratch:
                return paint(
                    self._settings,
                    self._records,
                    record,
                    pool,
                    Path(scratch),
                    lambda: run in self._stopped,
                    self._wanted,
                    [self._hear],
                )
        finally:
            pool.close()
            self._loans.pop(run, None)
            self._stopped.discard(run)

    def _wanted(self) -> bool:
        """Whether a render that was stopped goes on elsewhere: its client did not cancel it."""
        try:
            return not self._records.get(self._id).cancel_asked
        except CanvasError:  # whoever goes on with it will know
            return True

    def _hear(self, event: Event) -> None:
        if isinstance(event, StepDone) and (time.monotonic() - self._told > PACE or event.done == event.total):
            self._told = time.monotonic()
            self._boss.tell.remote(Progress(self._id, event.done / event.total))

    def returned(self, key: int, fit: bool) -> None:
        self._boss.tell.remote(Returned(self._id, key, fit))

    # -- beside `paint`, in another thread

    def lend(self, run: str, grant: Grant) -> None:
        self._loans.setdefault(run, Loans()).grant(grant)

    def call_back(self, run: str, key: int) -> None:
        self._loans.setdefault(run, Loans()).call_back(key)

    def stop(self, run: str) -> None:
        self._stopped.add(run)


def run_of(record: Record) -> str:
    """A name for this claim of a render: what is said about an earlier one, late, shall mean nothing."""
    return f"{record.id}/{record.claims}"


def light(settings: Settings) -> dict[str, Any]:
    """The Ray options of what runs a service without painting: where it lies, and no processor of its own."""
    return {"num_cpus": 0, "resources": settings.service_resources}


class Cast:
    """The stage of a supervisor: its workers and drivers on Ray. `boss`: the supervisor's own handle."""

    def __init__(self, settings: Settings, boss: Any, poke: Callable[[], None]) -> None:
        self._settings, self._boss, self._poke = settings, boss, poke
        self._options = dict(settings.worker_resources)
        self._kind: Any = None
        self._actors: dict[int, Any] = {}
        self._places: dict[int, Place] = {}
        self._coming: dict[Any, int] = {}
        self._watched: dict[Any, int] = {}
        self._resting: dict[Any, tuple[int, float]] = {}
        self._painting: dict[Any, str] = {}
        self._conductors: dict[str, tuple[Any, str]] = {}
        self._spare: list[tuple[float, Any]] = []
        self._told: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._draining = Draining(time.monotonic)
        self._next = 0

    def tell(self, news: News) -> None:
        """What actors have to say. Thread-safe."""
        self._told.put(news)
        self._poke()

    # -- workers

    def most(self) -> int:
        import ray

        if self._settings.max_workers != "auto":
            return self._settings.max_workers
        total = ray.cluster_resources()
        gpus = int(total.get("GPU", 0))
        return max(1, gpus or int(total.get("CPU", 0)))

    def hire(self) -> int:
        key, self._next = self._next, self._next + 1
        self._actors[key] = actor = self._worker_kind().remote(self._settings.modules)
        self._coming[actor.placed.remote()] = key
        return key

    def _worker_kind(self) -> Any:
        import ray

        from raytile.engine.ray.actor import CONTROL as RING
        from raytile.engine.ray.actor import WATCH, WorkerActor

        if self._kind is None:
            if not {"num_cpus", "num_gpus"} & set(self._options):
                self._options["num_gpus" if ray.cluster_resources().get("GPU") else "num_cpus"] = 1
            options = {"max_restarts": 0, "max_task_retries": 0, "num_cpus": 0, **self._options}
            self._kind = ray.remote(concurrency_groups={RING: 1, WATCH: 1})(WorkerActor).options(**options)
        return self._kind

    def dismiss(self, key: int) -> None:
        import ray

        actor = self._actors.pop(key, None)
        self._places.pop(key, None)
        self._coming = {ref: one for ref, one in self._coming.items() if one != key}
        self._watched = {ref: one for ref, one in self._watched.items() if one != key}
        self._resting = {ref: one for ref, one in self._resting.items() if one[0] != key}
        if actor is not None:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def leaving(self) -> frozenset[int]:
        going = self._draining.deadlines() if self._places else {}
        return frozenset(key for key, place in self._places.items() if place.node in going)

    def rest(self, key: int) -> None:
        if key in self.leaving():
            self.tell(Went(key))  # its node goes: let it go with nothing to do
            self.dismiss(key)
            return
        self._resting[self._actors[key].rest.remote()] = key, time.monotonic() + PATIENCE

    # -- drivers

    def open(self, record: Record) -> None:
        conductor = self._spare.pop()[1] if self._spare else self._conductor()
        self._conductors[record.id] = conductor, run_of(record)
        self._painting[conductor.paint.remote(record, max(CREW, 2 * self.most()))] = record.id

    def _conductor(self) -> Any:
        import ray

        kind = ray.remote(concurrency_groups={CONTROL: 1})(Conductor)
        options = {"max_restarts": 0, "max_task_retries": 0, **light(self._settings)}
        return kind.options(**options).remote(self._settings, self._boss)

    def lend(self, id: str, key: int) -> None:
        self._say(id, "lend", Grant(key, self._actors[key], self._places[key]))

    def call_back(self, id: str, key: int) -> None:
        self._say(id, "call_back", key)

    def stop(self, id: str) -> None:
        self._say(id, "stop")

    def end(self, id: str) -> None:
        import ray

        if id in self._conductors:
            ray.kill(self._conductors[id][0])

    def _say(self, id: str, method: str, *args: Any) -> None:
        if id in self._conductors:  # else its end is among the news
            conductor, run = self._conductors[id]
            getattr(conductor, method).options(concurrency_group=CONTROL).remote(run, *args)

    def idle(self, seconds: float) -> None:
        import ray

        now = time.monotonic()
        for since, conductor in self._spare:
            if now - since > seconds or len(self._spare) > SPARE:
                self._spare = [one for one in self._spare if one[1] is not conductor]
                ray.kill(conductor)

    # -- what has happened

    def news(self) -> list[News]:
        found: list[News] = []
        while not self._told.empty():
            found.append(self._told.get())
        return [*found, *self._arrivals(), *self._rested(), *self._dead(), *self._closed()]

    def _ready(self, refs: list[Any]) -> list[Any]:
        import ray

        ready: list[Any] = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        return ready

    def _arrivals(self) -> list[News]:
        import ray

        found: list[News] = []
        for ref in self._ready(list(self._coming)):
            key = self._coming.pop(ref)
            try:
                self._places[key] = place = Place(**ray.get(ref))
                if place.version != __version__:
                    raise TypeError(f"raytile is {place.version} on {place.host} and {__version__} here")
                self._watched[self._actors[key].watch.options(concurrency_group="watch").remote()] = key
                found.append(Came(key))
            except (ray.exceptions.RayError, TypeError) as error:
                LOG.warning("a worker did not come up: %s", first_line(error))
                self.dismiss(key)
                found.append(Went(key))
        return found

    def _rested(self) -> list[News]:
        import ray

        found: list[News] = []
        now = time.monotonic()
        ready = self._ready(list(self._resting))
        for ref, (key, until) in list(self._resting.items()):
            if ref not in ready and now < until:
                continue
            del self._resting[ref]
            try:
                ray.get(ref, timeout=0)
                found.append(Came(key))
            except ray.exceptions.RayError:  # it is dead, or hangs
                self.dismiss(key)
                found.append(Went(key))
        return found

    def _dead(self) -> list[News]:
        """Workers whose process is gone, whatever they did."""
        gone = [self._watched[ref] for ref in self._ready(list(self._watched))]
        for key in gone:
            self.dismiss(key)
        return [Went(key) for key in gone]

    def _closed(self) -> list[News]:
        import ray

        found: list[News] = []
        for ref in self._ready(list(self._painting)):
            id = self._painting.pop(ref)
            conductor, _ = self._conductors.pop(id)
            try:
                found.append(Closed(id, ray.get(ref)))
                self._spare.append((time.monotonic(), conductor))
            except ray.exceptions.RayError as error:
                LOG.warning("the driver of render %s: %s", id, first_line(error))
                with suppress(ray.exceptions.RayError):
                    ray.kill(conductor)
                found.append(Closed(id, None))
        return found


class SupervisorActor:
    """The supervisor of a service, in a process of its own; Ray starts it again when it dies. `token` names it in the
    store, for good: what it had claimed before is its own. It ends itself when no replica has asked after it for so
    long that there can be none."""

    def __init__(self, settings: Settings, token: str) -> None:
        import ray

        self._boss = ray.get_runtime_context().current_actor
        self._turn = threading.Event()
        self._over = threading.Event()
        self._cast = Cast(settings, self._boss, self._turn.set)
        self._poked = False
        self._asked = time.monotonic()
        self._pause = settings.lease / BEATS
        records = open_records(settings, time.time)
        self._book = Book()
        self._supervisor = Supervisor(settings, records, self._cast, token, self._book, time.monotonic)
        self._reporter = Reporter(self._batch, lambda: shared_meter(token))
        self._threads = [
            threading.Thread(target=run, name=run.__name__, daemon=True) for run in (self._beat, self._run)
        ]
        for thread in self._threads:
            thread.start()

    def _beat(self) -> None:
        for number in count():
            try:
                if self._supervisor.stats()["ready"]:  # one that does nothing is not alive
                    self._supervisor.beat(number)
            except Exception as error:
                LOG.warning("the store hears no sign of life: %s", first_line(error))
            if self._over.wait(self._pause):
                return

    def _run(self) -> None:
        while not self._over.is_set():
            self._turn.clear()
            poked, self._poked = self._poked, False
            try:
                self._supervisor.round(poked)
            except Exception:
                LOG.exception("a round of the supervisor failed")
                self._over.wait(1.0)
            if time.monotonic() - self._asked > ABSENT:
                self._abandon()
            self._turn.wait(TURN)

    def _batch(self) -> Batch:
        self._book.gauge("raytile_supervisors", int(self._supervisor.stats()["ready"]))
        return self._book.batch()

    def _abandon(self) -> None:
        """The service was taken down: nobody is left who could."""
        import ray

        LOG.warning("no replica has asked for %.0f s: the supervisor ends", ABSENT)
        self._over.set()
        self._supervisor.leave()
        ray.kill(self._boss)

    def poke(self) -> None:
        self._asked = time.monotonic()
        self._poked = True
        self._turn.set()

    def tell(self, news: News) -> None:
        self._cast.tell(news)

    def stats(self) -> dict[str, Any]:
        self._asked = time.monotonic()
        return self._supervisor.stats()

    def leave(self) -> None:
        """End: what is open goes on wherever the store is served next."""
        self._over.set()
        self._turn.set()
        for thread in self._threads:
            thread.join(10.0)
        self._supervisor.leave()
        self._reporter.close()
