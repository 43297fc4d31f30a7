"""What Prometheus would see, without Ray: a recorder that takes nothing but what the table of series allows."""

from __future__ import annotations

from collections import defaultdict

from raytile.meter import Key, Meter
from raytile.series import OPEN, SERIES


class Shown:
    """Instruments that keep all they were told. Each series is one of the table, with its labels, and theirs values."""

    def __init__(self, nodes: tuple[str, ...] = ()) -> None:
        self.nodes = {"node": set(nodes)}
        self.counters: dict[Key, float] = defaultdict(float)
        self.gauges: dict[Key, float] = {}
        self.observed: dict[Key, list[float]] = defaultdict(list)
        self.now: set[Key] = set()
        """Gauges that were set since this was emptied: what Ray shows is what was set of late."""

    def count(self, of: Key, by: float) -> None:
        self._lawful(of, "counter")
        assert by >= 0, f"{of} fell"
        self.counters[of] += by

    def gauge(self, of: Key, value: float) -> None:
        self._lawful(of, "gauge", "rising")
        assert value >= 0
        if SERIES[of[0]].kind == "rising" and of in self.now:
            assert value >= self.gauges[of], f"{of} fell"
        self.gauges[of] = value
        self.now.add(of)

    def observe(self, of: Key, value: float) -> None:
        self._lawful(of, "histogram")
        assert value >= 0
        self.observed[of].append(value)

    def _lawful(self, of: Key, *kinds: str) -> None:
        series, labels = SERIES[of[0]], dict(of[1])
        assert series.kind in kinds
        assert set(labels) == set(series.labels), of
        for label, value in labels.items():
            if label == "slot":
                assert 0 <= int(value) < 100
            elif label == "node":
                assert value in self.nodes["node"], of
            elif label not in OPEN:
                assert value in series.labels[label], of

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of a name that have these labels."""
        tables = (self.counters, {of: value for of, value in self.gauges.items() if of in self.now})
        return sum(
            value
            for table in tables
            for (found, having), value in table.items()
            if found == name and labels.items() <= dict(having).items()
        )

    def series(self) -> set[Key]:
        """All that is shown."""
        return set(self.counters) | self.now | set(self.observed)


class Cluster:
    """A meter, its clock, and what it shows. Time passes as `look` says, and what is not shown again is gone."""

    def __init__(self, *nodes: str) -> None:
        self.now = 0.0
        self.shown = Shown(nodes)
        self.meter = Meter(self.shown, self.clock)

    def clock(self) -> float:
        return self.now

    def look(self, seconds: float = 0.0) -> Shown:
        self.now += seconds
        self.shown.now.clear()
        self.meter.look()
        return self.shown
