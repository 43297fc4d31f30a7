"""Events in, series out: what is shown is what happened, never falls, and its labels never grow without bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.api import render
from raytile.errors import InvalidRequest
from raytile.events import (
    Counts,
    Event,
    PhaseDone,
    Regrouped,
    RenderStarted,
    RolledBack,
    SnapshotStored,
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
from raytile.meter import KEPT, MOST, SILENT, Batch, Book, key
from raytile.metrics import About, Metrics, Reporter, Send
from raytile.plan.request import RenderRequest
from tests.metrics.shown import Cluster

MIB = 2**20


class Render:
    """A render that a test tells the events of."""

    def __init__(self, cluster: Cluster, name: str = "one", model: str = "toy", **more: Any) -> None:
        self.cluster, self.name = cluster, name
        self.metrics = Metrics(About(model, lambda tile: 100 + tile, {1, 2}), cluster.clock, **more)

    def tell(self, *events: Event) -> Render:
        for event in events:
            self.metrics(event)
        return self

    def begin(self, workers: int, node: str = "a", pid: int = 1) -> Render:
        self.tell(RenderStarted("c", 10, 10, workers, 1, 4, 2, (1, 1)))
        return self.tell(*(ready(number, node, pid + number) for number in range(workers)))

    def send(self, seconds: float = 0.0) -> None:
        self.cluster.now += seconds
        self.cluster.meter.take(self.name, self.metrics.batch())
        self.cluster.look()

    def end(self, state: Any = "finished") -> None:
        self.metrics.end(state)
        self.cluster.meter.take(self.name, self.metrics.batch(), over=True)
        self.cluster.look()


def ready(worker: int, node: str = "a", pid: int = 1) -> WorkerReady:
    return WorkerReady(worker, node, pid, "cpu", "", "", 5 * MIB)


def phase(worker: int, number: int, *stored: SnapshotStored, **counts: Any) -> PhaseDone:
    return PhaseDone(worker, 1, number, Counts(**counts), stored)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """What every test shows is lawful as it is shown; in the end nothing runs that has ended."""
    made = Cluster("a", "b", "vm")
    yield made
    shown = made.look(SILENT + 1)
    assert shown.total("raytile_renders") == shown.total("raytile_workers") == 0, "ended, and still there"
    assert shown.total("raytile_worker_memory_bytes") == 0
    assert not {label for _, labels in made.look(KEPT + 1).now for label, _ in labels} & {"node", "slot"}


def test_a_cluster_that_did_nothing_shows_so(cluster: Cluster) -> None:
    shown = cluster.look()
    assert shown.counters[key("raytile_store_errors_total", {})] == 0
    assert {dict(labels)["state"] for name, labels in shown.counters if name == "raytile_renders_ended_total"} == {
        "finished", "failed", "cancelled",
    }  # fmt: skip
    assert key("raytile_renders", {"state": "running"}) in shown.now
    assert not [name for name, _ in shown.series() if name == "raytile_cost_total"]


def test_what_is_shown_of_a_render_is_its_summary(cluster: Cluster, tmp_path: Path) -> None:
    request = RenderRequest.parse(prompt="a meadow", width=640, height=256, steps=4, model="toy", sync="overlap")
    layout = []
    about = About("toy", lambda tile: layout[0].pixels(tile).area, set(range(1, 5)))
    metrics = Metrics(about, cluster.clock)
    events: list[Event] = []
    canvas = render(request, tmp_path / "c.zarr", in_process=True, workers=2, device="cpu", listeners=[events.append])
    layout.append(canvas.layout)
    for number, event in enumerate(events):
        cluster.shown.nodes["node"].add(getattr(event, "node", "a"))
        cluster.now += 0.25
        metrics(event)
        if number % 5 == 0:
            cluster.meter.take("one", metrics.batch())
    metrics.end("finished")
    cluster.meter.take("one", metrics.batch(), over=True)
    shown, summary = cluster.look(), canvas.head().summary or {}
    assert shown.total("raytile_evaluations_total", model="toy") == summary["evaluations"] > 0
    assert shown.total("raytile_exchanged_bytes_total") == summary["bytes_exchanged"] > 0
    assert shown.total("raytile_pixels_total") == 640 * 256
    assert shown.total("raytile_tiles_total") == canvas.head().tiles_total
    assert shown.total("raytile_steps_total") == max(event.total for event in events if isinstance(event, StepDone))
    assert shown.total("raytile_worker_busy_seconds_total") == pytest.approx(sum(summary["busy_seconds"]), abs=0.1)
    assert shown.total("raytile_renders_ended_total", state="finished") == 1
    parts = shown.total("raytile_worker_part_seconds_total") - shown.total(
        "raytile_worker_part_seconds_total", part="wait"
    )
    assert 0 < parts <= shown.total("raytile_worker_busy_seconds_total") + 1e-6


def test_workers_come_and_go(cluster: Cluster) -> None:
    one = Render(cluster).begin(2)
    one.send()
    assert cluster.shown.total("raytile_workers", state="working") == 2
    assert cluster.shown.total("raytile_renders", state="running") == 1
    one.tell(WorkerLost(0, "died"), WorkerHired(2)).send()
    assert cluster.shown.total("raytile_workers", state="working") == 1
    assert cluster.shown.total("raytile_workers", state="coming") == 1
    one.tell(ready(2, "a", 9), WorkerJoined(2, (1, 2)), WorkerLeft(1, (2,), "drained"), WorkerReleased(2)).send()
    assert cluster.shown.total("raytile_workers") == 0
    for kind in ("lost", "hired", "joined", "left"):
        assert cluster.shown.total("raytile_worker_changes_total", kind=kind) == 1
    one.end("failed")
    assert cluster.shown.total("raytile_renders_ended_total", state="failed") == 1
    assert [labels for _, labels in cluster.shown.observed] == [(("state", "failed"),)]


def test_time_and_money_are_told_of_who_is_there_and_no_longer(cluster: Cluster) -> None:
    one = Render(cluster, price=3.6).begin(2)
    one.send(100)
    one.tell(WorkerReleased(0)).send(50)
    one.end()
    assert cluster.shown.total("raytile_worker_seconds_total") == 250
    assert cluster.shown.total("raytile_worker_seconds_total", slot="0") == 100
    assert cluster.shown.total("raytile_cost_total") == pytest.approx(250 * 3.6 / 3600)


def test_of_lent_workers_their_owner_tells(cluster: Cluster) -> None:
    one = Render(cluster, lent=True, price=5.0).begin(2)
    one.send(100)
    assert cluster.shown.total("raytile_workers") == cluster.shown.total("raytile_renders") == 0
    one.end()
    assert cluster.shown.total("raytile_renders_ended_total") == cluster.shown.total("raytile_cost_total") == 0
    assert cluster.shown.total("raytile_worker_seconds_total") == 200
    assert not cluster.shown.observed


def test_steps_count_once_and_what_is_done_again_apart(cluster: Cluster) -> None:
    one = Render(cluster).begin(1)
    went = RolledBack(2, 1, (), 1, 0, "all were lost"), RolledBack(2, 1, (0,), 1, 0, "all were lost")
    steps = [StepDone(0, 1, step, 9, done, 9) for step, done in ((5, 5), (6, 6), (6, 6), (7, 7))]
    one.tell(*steps[:2], *went, *steps[2:])  # taken over from step 4 on
    one.tell(phase(0, 0), phase(0, 1), phase(0, 2), phase(0, 2), phase(0, 3)).end()
    assert cluster.shown.total("raytile_steps_total") == 3
    assert cluster.shown.total("raytile_rollbacks_total") == 1
    assert cluster.shown.total("raytile_steps_redone_total") == 1
    assert cluster.shown.total("raytile_worker_steps_total", node="a", slot="0") == 3


def test_snapshots_moves_and_trouble(cluster: Cluster) -> None:
    one = Render(cluster).begin(1)
    stored = SnapshotStored(0, 1, 1, 0.5, 1000), SnapshotStored(0, 1, 2, 0.25, 500)
    one.tell(phase(0, 1, *stored, store_errors=2), SnapshotWhole(1), StoreTrouble("away"), Regrouped(2, 1, (0,), 7, ""))
    one.tell(phase(0, 2, store_errors=3)).end()
    assert cluster.shown.total("raytile_snapshots_total") == 1
    assert cluster.shown.total("raytile_snapshot_bytes_total") == 1500
    assert cluster.shown.total("raytile_snapshot_seconds_total") == 0.75
    assert cluster.shown.total("raytile_tiles_moved_total") == 7
    assert cluster.shown.total("raytile_store_errors_total") == 4


def test_a_tile_that_is_decoded_twice_counts_once(cluster: Cluster) -> None:
    tiles = [TileDone(0, tile, "", "", Counts(rows=10 * (tile + 1), rows_padded=tile)) for tile in (0, 1, 1)]
    Render(cluster).begin(1).tell(*tiles).end()
    assert cluster.shown.total("raytile_tiles_total") == 2
    assert cluster.shown.total("raytile_pixels_total", model="toy") == 201
    assert cluster.shown.total("raytile_evaluations_total", model="toy") == 19


def test_a_driver_that_dies_is_gone_soon_and_what_it_did_is_not(cluster: Cluster) -> None:
    one = Render(cluster).begin(2)
    one.tell(phase(0, 1, rows=8, busy_seconds=2.0)).send(5)
    assert cluster.look(SILENT).total("raytile_renders", state="running") == 1
    shown = cluster.look(1)
    assert shown.total("raytile_renders") == shown.total("raytile_workers") == 0
    assert shown.total("raytile_worker_memory_bytes") == 0
    assert shown.total("raytile_evaluations_total") == 8
    assert shown.total("raytile_worker_busy_seconds_total") == 2.0
    other = Render(cluster, "two").begin(2, pid=50)
    other.tell(phase(1, 1, busy_seconds=1.0)).send()
    assert {dict(labels)["slot"] for _, labels in shown.now if "slot" in dict(labels)} == {"0", "1"}, (
        "places are reused"
    )
    assert shown.total("raytile_worker_busy_seconds_total") == 3.0
    other.end()


def test_two_renders_add_up(cluster: Cluster) -> None:
    one, two = Render(cluster, "one").begin(1, pid=1), Render(cluster, "two").begin(2, pid=7)
    one.send()
    two.send()
    assert cluster.shown.total("raytile_renders", state="running") == 2
    assert cluster.shown.total("raytile_workers", state="working") == 3
    assert cluster.shown.total("raytile_worker_memory_bytes", kind="rss") == 15 * MIB
    assert cluster.shown.total("raytile_worker_memory_bytes", kind="rss", slot="2") == 5 * MIB
    one.end()
    assert cluster.shown.total("raytile_renders", state="running") == 1
    two.end()


@pytest.mark.parametrize("price", ["cheap", "-1", "inf", "nan"])
def test_a_price_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, price: str) -> None:
    monkeypatch.setenv("RAYTILE_PRICE_PER_WORKER_HOUR", price)
    with pytest.raises(InvalidRequest, match=f"got {price}; see RAYTILE_PRICE_PER_WORKER_HOUR"):
        render(RenderRequest.parse(prompt="x", width=64, height=64, model="toy"), tmp_path / "c.zarr", in_process=True)


def test_metrics_that_cannot_be_sent_hurt_nobody_and_the_last_batch_says_so() -> None:
    told: list[bool] = []
    tries = iter([OSError("no meter yet")])

    def find() -> Send:
        for error in tries:
            raise error
        return lambda _, over: told.append(over)

    reporter = Reporter(Book().batch, find)
    reporter.close()
    assert told == [True]


def test_a_label_that_nobody_bounds_is_bounded(cluster: Cluster) -> None:
    for number in range(MOST + 5):
        one = Render(cluster, str(number), model=f"model-{number}").begin(1)
        one.tell(TileDone(0, 0, "", "", Counts())).end()
    found = {dict(labels)["model"] for name, labels in cluster.shown.counters if name == "raytile_pixels_total"}
    assert len(found) == MOST + 1
    assert cluster.shown.total("raytile_pixels_total", model="other") == 500


def test_series_are_as_many_after_fifty_renders_as_after_ten(cluster: Cluster) -> None:
    counts = []
    for number in range(50):
        one = Render(cluster, str(number)).begin(4, pid=100 * number)
        one.tell(*(phase(worker, 1, rows=4) for worker in range(4))).send(20)
        if number % 10 != 7:  # some drivers die
            one.end("cancelled" if number % 10 == 3 else "finished")
        else:
            cluster.look(SILENT + 1)
        counts.append(len(cluster.shown.series()))
    assert counts[-1] == counts[9]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.sets(st.tuples(st.sampled_from("ab"), st.integers(1, 6)))), max_size=20
    )
)
def test_no_two_workers_share_a_place_and_there_are_no_more_than_workers(
    said: list[tuple[str, set[tuple[str, int]]]],
) -> None:
    """Sources say in any order which workers are theirs; one may be of two while it goes from the one to the other."""
    cluster = Cluster("a", "b")
    theirs: dict[str, set[tuple[str, int]]] = {}
    most = {"a": 0, "b": 0}
    done = 0
    for source, workers in said:
        theirs[source] = workers
        there = set().union(*theirs.values())
        memory = {worker: {key("raytile_worker_memory_bytes", {"kind": "rss"}): float(worker[1])} for worker in workers}
        work = {worker: {key("raytile_worker_steps_total", {}): 1.0} for worker in workers}
        cluster.meter.take(source, Batch(workers=work, memory=memory))
        done += len(workers)
        shown = cluster.look()
        assert shown.total("raytile_worker_memory_bytes") == sum(pid for _, pid in there), "each has a place of its own"
        assert shown.total("raytile_worker_steps_total") == done
        for node in most:
            most[node] = max(most[node], sum(host == node for host, _ in there))
    slots = {
        (dict(labels)["node"], int(dict(labels)["slot"]))
        for _, labels in cluster.shown.gauges
        if "slot" in dict(labels)
    }
    assert all(slot < most[node] for node, slot in slots)
