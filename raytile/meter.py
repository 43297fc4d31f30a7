"""What processes tell of the renders of a cluster, and where it is added up. No Ray here: see `metrics`.

Whoever has something to tell (the driver of a render, the supervisor of a service) keeps a `Book` and sends what is in
it once a second to one `Meter` that outlives them all. Ray labels each series with the process that shows it and
forgets none: were drivers to show theirs, every render would leave its own behind. For the same reason the figures of a
worker carry its place and not its name: a node, and the smallest number that was free there."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from raytile.series import OPEN, SERIES

SILENT = 10.0
"""Seconds without a batch after which whoever sent them is dead, and what it said was there is not."""
KEPT = 600.0
"""Seconds that the totals of a place are shown on when nobody works there: Prometheus shall see the last of them."""
MOST = 32
"""Values of a label that nothing bounds; those that come later are `other`."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A series: its name, and its labels in order."""
Worker = tuple[str, int]
"""The host of a worker's process, and its id there."""


@dataclass
class Batch:
    """What happened since the last one, and what holds now."""

    counts: dict[Key, float] = field(default_factory=dict)
    seen: list[tuple[Key, float]] = field(default_factory=list)
    """What histograms take in."""
    gauges: dict[Key, float] = field(default_factory=dict)
    """All that hold."""
    workers: dict[Worker, dict[Key, float]] = field(default_factory=dict)
    """Of each worker that is mine now, or was until now, what it did more."""
    memory: dict[Worker, dict[Key, float]] = field(default_factory=dict)
    """Of each that is mine now, what it holds."""


def key(name: str, labels: Mapping[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


class Book:
    """What one process has to tell. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._now = Batch()

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        with self._lock:
            self._now.counts[key(name, labels)] = self._now.counts.get(key(name, labels), 0.0) + by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._now.gauges[key(name, labels)] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._now.seen.append((key(name, labels), value))

    def work(self, worker: Worker, name: str, by: float, **labels: str) -> None:
        """So much more was done by a worker of mine."""
        with self._lock:
            done = self._now.workers.setdefault(worker, {})
            done[key(name, labels)] = done.get(key(name, labels), 0.0) + by

    def holds(self, worker: Worker, name: str, value: float, **labels: str) -> None:
        """A worker is mine, and holds so much."""
        with self._lock:
            self._now.memory.setdefault(worker, {})[key(name, labels)] = value

    def parted(self, worker: Worker) -> None:
        """A worker is mine no more."""
        with self._lock:
            self._now.memory.pop(worker, None)

    def batch(self) -> Batch:
        """What is to be told now."""
        with self._lock:
            told = self._now
            self._now = Batch(gauges=dict(told.gauges), memory={w: dict(of) for w, of in told.memory.items()})
            return told


class Instruments(Protocol):
    """What shows series to Prometheus."""

    def count(self, of: Key, by: float) -> None: ...

    def gauge(self, of: Key, value: float) -> None: ...

    def observe(self, of: Key, value: float) -> None: ...


@dataclass
class _Place:
    """A place on a node: its totals, and since when nobody has it, if nobody has."""

    totals: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    left: float | None = None


@dataclass
class _Source:
    heard: float
    gauges: dict[Key, float] = field(default_factory=dict)
    memory: dict[Worker, dict[Key, float]] = field(default_factory=dict)


class Meter:
    """Adds up what all the processes of a cluster tell, and shows it. Thread-safe."""

    def __init__(self, instruments: Instruments, clock: Callable[[], float]) -> None:
        self._instruments, self._clock = instruments, clock
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}
        self._seats: dict[Worker, int] = {}
        self._places: dict[tuple[str, int], _Place] = {}
        self._values: dict[str, set[str]] = defaultdict(set)
        for name, series in SERIES.items():
            if series.kind == "counter" and not series.late:
                for of in series.combinations():
                    instruments.count(key(name, of), 0)
        self.look()

    def take(self, source: str, batch: Batch, over: bool = False) -> None:
        """A batch of `source`; its last one if `over`."""
        with self._lock:
            for of, by in batch.counts.items():
                self._instruments.count(self._bounded(of), by)
            for of, value in batch.seen:
                self._instruments.observe(self._bounded(of), value)
            self._sources[source] = _Source(self._clock(), batch.gauges, batch.memory)
            self._tidy(batch.workers)
            for worker, done in batch.workers.items():
                totals = self._place(worker).totals
                for of, by in done.items():
                    totals[of] += by
            for worker in batch.memory:
                self._place(worker)
            if over:
                del self._sources[source]
            self._tidy()

    def look(self) -> None:
        """Show what holds. Ray forgets a gauge that is not set again and again."""
        with self._lock:
            now = self._clock()
            self._sources = {name: one for name, one in self._sources.items() if now - one.heard <= SILENT}
            self._tidy()
            sums: dict[Key, float] = {
                key(name, of): 0.0
                for name, series in SERIES.items()
                if series.kind == "gauge" and "slot" not in series.labels
                for of in series.combinations()
            }
            for source in self._sources.values():
                for of, value in source.gauges.items():
                    sums[of] = sums.get(of, 0.0) + value
                for worker, holds in source.memory.items():
                    sums |= {self._at((worker[0], self._seats[worker]), of): value for of, value in holds.items()}
            for at, place in self._places.items():
                sums |= {self._at(at, of): value for of, value in place.totals.items()}
            for of, value in sums.items():
                self._instruments.gauge(of, value)

    def _place(self, worker: Worker) -> _Place:
        """The place of a worker; a new one has the smallest that is free on its node."""
        if worker not in self._seats:
            taken = {slot for (host, _), slot in self._seats.items() if host == worker[0]}
            self._seats[worker] = next(slot for slot in count() if slot not in taken)
        place = self._places.setdefault((worker[0], self._seats[worker]), _Place())
        place.left = None
        return place

    def _tidy(self, spared: Collection[Worker] = ()) -> None:
        """Places of workers that nobody has are free, and forgotten after a while."""
        now = self._clock()
        held = {*spared, *(worker for source in self._sources.values() for worker in source.memory)}
        for worker in self._seats.keys() - held:
            self._places[worker[0], self._seats.pop(worker)].left = now
        self._places = {at: one for at, one in self._places.items() if one.left is None or now - one.left <= KEPT}

    def _at(self, place: tuple[str, int], of: Key) -> Key:
        return key(of[0], {**dict(of[1]), "node": place[0], "slot": str(place[1])})

    def _bounded(self, of: Key) -> Key:
        """A series whose open labels have no more than so many values."""
        name, labels = of
        return name, tuple((label, self._known(label, value)) for label, value in labels)

    def _known(self, label: str, value: str) -> str:
        known = self._values[label]
        if label not in OPEN or value in known:
            return value
        if len(known) >= MOST:
            return "other"
        known.add(value)
        return value
