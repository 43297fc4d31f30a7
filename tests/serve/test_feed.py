"""Feeds: consecutive ids, whoever writes; a reader sees each event once, from wherever it begins."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.canvas.bytes import Bytes, MemoryBytes
from raytile.errors import CanvasError
from raytile.events import Counts, PreviewStored, RenderStarted, StepDone, TileDone, WorkerLost, WorkerReady
from raytile.serve import feed
from raytile.serve.feed import FeedListener, FeedReader, FeedWriter, merged, read_feed

ID = "r" + "0" * 24


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EAGER", 0.01)
    monkeypatch.setattr(feed, "PACE", 0.01)
    monkeypatch.setattr(feed, "TROUBLED", 0.01)


def write(objects: Bytes, *names: str) -> None:
    writer = FeedWriter(objects, ID, lambda: 7.0)
    for name in names:
        writer.post(name, {"n": name})
    writer.close()


def test_events_are_read_as_they_were_written_from_any_place(objects: Bytes) -> None:
    assert read_feed(objects, ID) == []
    write(objects, "queued")
    write(objects, "started", "worker", "rolled_back")
    write(objects, "finished")
    events = read_feed(objects, ID)
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["event"] for event in events] == ["queued", "started", "worker", "rolled_back", "finished"]
    assert events[1] == {"id": 2, "event": "started", "at": 7.0, "data": {"n": "started"}}
    for after in range(7):
        assert read_feed(objects, ID, after) == events[after:]


def test_a_reader_goes_on_where_it_was_and_lists_once() -> None:
    class Counting(MemoryBytes):
        listed = 0

        def sizes(self, below: str = "") -> dict[str, int]:
            self.listed += 1
            return super().sizes(below)

    objects = Counting()
    write(objects, "queued", "started")
    objects.listed = 0
    reader = FeedReader(objects, ID, after=1)
    assert [event["id"] for event in reader.read()] == [2]
    assert reader.read() == []
    objects.create(f"renders/{ID}/events/000000000003.json", b'[{"id": 3, "event": "step", "at": 0, "data": {}}]')
    assert [event["id"] for event in reader.read()] == [3]
    assert objects.listed == 1


def test_two_writers_share_one_row_of_ids(objects: Bytes) -> None:
    together = threading.Barrier(2)

    def run() -> None:
        writer = FeedWriter(objects, ID, lambda: 0.0)
        together.wait()
        for _ in range(10):
            writer.post("worker")
        writer.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["id"] for event in read_feed(objects, ID)] == [*range(1, 21)]


def test_a_store_that_is_away_costs_patience_and_no_event() -> None:
    class Away(MemoryBytes):
        refuse = 3

        def create(self, key: str, data: bytes) -> str | None:
            if self.refuse:
                self.refuse -= 1
                raise CanvasError("away")
            return super().create(key, data)

    objects = Away()
    writer = FeedWriter(objects, ID, lambda: 0.0)
    writer.post("queued")
    writer.post("started")
    end = threading.Event()
    for _ in range(500):
        if len(read_feed(objects, ID)) == 2:
            break
        end.wait(0.01)
    writer.close()
    assert [event["event"] for event in read_feed(objects, ID)] == ["queued", "started"]


names = st.sampled_from(["step", "preview", "tile", "worker"])


@given(st.lists(names, max_size=20))
def test_merging_loses_no_tile_and_keeps_the_last_step(burst: list[str]) -> None:
    events: list[dict[str, Any]] = [
        {"event": name, "at": n, "data": {"tiles": [n]} if name == "tile" else {"n": n}} for n, name in enumerate(burst)
    ]
    made = merged(events)
    tiles = [tile for event in made if event["event"] == "tile" for tile in event["data"]["tiles"]]
    assert tiles == [n for n, name in enumerate(burst) if name == "tile"]
    assert [event for event in made if event["event"] == "worker"] == [e for e in events if e["event"] == "worker"]
    assert made[-1:] == events[-1:] or burst[-1] == "tile"
    assert not any(one["event"] == other["event"] != "worker" for one, other in pairwise(made))


def test_a_listener_tells_a_render(objects: Bytes) -> None:
    writer = FeedWriter(objects, ID, lambda: 0.0)
    listen = FeedListener(writer, iter([10.0, 11.5]).__next__)
    listen(RenderStarted("c", 96, 64, 2, 1, 3, 6, (4,)))
    listen(WorkerReady(0, "n", 1, "cpu", "p", "v", 0))
    listen(WorkerReady(1, "n", 2, "cpu", "p", "v", 0))
    listen(StepDone(0, 1, 2, 4, 2, 4))
    listen(PreviewStored(0, 2))
    listen(WorkerLost(1, "gone"))
    listen(WorkerLost(1, "gone"))
    for tile in (4, 2):
        listen(TileDone(0, tile, "l", "p", Counts()))
    writer.close()
    told = [(event["event"], event["data"]) for event in read_feed(objects, ID)]
    assert [name for name, _ in told if name != "tile"] == ["started", "worker", "worker", "step", "preview", "worker"]
    assert [data["workers"] for name, data in told if name == "worker"] == [1, 2, 1]
    assert [tile for name, data in told if name == "tile" for tile in data["tiles"]] == [4, 2]
    step = next(data for name, data in told if name == "step")
    assert step == {"level": 0, "levels": 1, "step": 2, "steps": 4, "done": 2, "total": 4, "seconds": 1.5}


def test_the_first_event_is_the_first_once(objects: Bytes) -> None:
    for _ in range(2):  # a repetition, after a crash
        feed.post_now(objects, ID, lambda: 1.0, "queued", {"ahead": 0}, first=True)
    feed.post_now(objects, ID, lambda: 2.0, "cancelled")
    assert [(event["id"], event["event"]) for event in read_feed(objects, ID)] == [(1, "queued"), (2, "cancelled")]


def test_a_closed_feed_is_written_to_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "CLOSING", 0.05)

    class Slow(MemoryBytes):
        gate = threading.Event()

        def sizes(self, below: str = "") -> dict[str, int]:
            self.gate.wait(20)
            return super().sizes(below)

    objects = Slow()
    writer = FeedWriter(objects, ID, lambda: 0.0)
    writer.post("step")
    writer.close()
    feed.post_now(objects, ID, lambda: 0.0, "finished", first=True)
    objects.gate.set()
    assert writer._thread is not None
    writer._thread.join(20)
    assert [event["event"] for event in read_feed(objects, ID)] == ["finished"]
