"""The supervisor's choices, on a stage of paper: what real processes do is in test_ray_choir."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from raytile.canvas.bytes import MemoryBytes
from raytile.errors import CanvasError
from raytile.meter import Book, key
from raytile.plan.request import RenderRequest
from raytile.serve.feed import read_feed
from raytile.serve.names import RENDER, new_id
from raytile.serve.painting import Result
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings
from raytile.serve.stage import Came, Closed, News, Progress, Returned
from raytile.serve.supervisor import DEATHS, Supervisor


class Paper:
    """Workers come at once; who is called back comes back in the next round; who is stopped is left."""

    def __init__(self, workers: int) -> None:
        self.workers, self.hired = workers, 0
        self.open_: dict[str, Record] = {}
        self.lent: dict[str, set[int]] = {}
        self.told: list[News] = []
        self.dismissed: list[int] = []
        self.going: set[int] = set()

    def most(self) -> int:
        return self.workers

    def hire(self) -> int:
        self.hired += 1
        self.told.append(Came(self.hired))
        return self.hired

    def dismiss(self, key: int) -> None:
        self.dismissed.append(key)

    def leaving(self) -> frozenset[int]:
        return frozenset(self.going)

    def rest(self, key: int) -> None:
        self.told.append(Came(key))

    def open(self, record: Record) -> None:
        self.open_[record.id] = record
        self.lent[record.id] = set()

    def lend(self, id: str, key: int) -> None:
        assert all(key not in keys for keys in self.lent.values()), "lent twice"
        self.lent[id].add(key)

    def call_back(self, id: str, key: int) -> None:
        if id in self.open_:
            self.lent[id].discard(key)
            self.told.append(Returned(id, key, True))

    def stop(self, id: str) -> None:
        if id in self.open_:
            self.close(id, "left")

    def close(self, id: str, result: Result | None) -> None:
        del self.open_[id]
        self.told += [Returned(id, key, True) for key in self.lent.pop(id)]
        self.told.append(Closed(id, result))

    def end(self, id: str) -> None:
        self.close(id, None)

    def idle(self, seconds: float) -> None: ...

    def news(self) -> list[News]:
        found, self.told = self.told, []
        return found


class World:
    def __init__(self, workers: int = 2, objects: MemoryBytes | None = None, token: str = "us", **given: Any) -> None:
        self.now = 1000.0
        self.seen: set[str] = set()
        self.stage = Paper(workers)
        self.records = Records(objects or MemoryBytes(), lambda: self.now)
        self.book = Book()
        settings = Settings.load(store="unused", **given)
        self.supervisor = Supervisor(settings, self.records, self.stage, token, self.book, lambda: self.now)

    def add(self, owner: str = "x", useful: int = 1, evaluations: int = 100, **more: Any) -> str:
        id = new_id(RENDER, self.now, random.Random(len(self.records.owned(None))))
        request = RenderRequest.parse(prompt="sea", width=64, height=64, model="toy")
        fields = {"evaluations": evaluations, "tiles": 1, "useful": useful, "request": request, "shown": {}}
        self.now += 0.01
        self.records.add(Record(id=id, owner=owner, created=self.now, updated=self.now, **fields, **more))
        return id

    def rounds(self, count: int = 3, seconds: float = 0.2) -> None:
        for _ in range(count):
            self.now += seconds
            self.supervisor.round(True)

    def work(self, until: float) -> None:
        """Whoever has a worker comes further, for a while; takes note of who had one."""
        for number in range(1, 11):
            for id in list(self.stage.open_):
                if self.stage.lent[id]:
                    self.seen.add(id)
                    self.stage.told.append(Progress(id, until * number / 10))
            self.rounds(4, seconds=10.0)


def test_an_owner_with_many_renders_does_not_keep_others_out() -> None:
    world = World(max_running=4)
    heavy = [world.add("heavy", priority=10) for _ in range(17)]
    world.rounds()
    assert len(world.stage.open_) == 2  # no more than there are workers
    light = world.add("light")
    world.rounds(6)
    assert world.stage.lent[light]
    assert any(world.stage.lent.get(id) for id in heavy)


def test_who_rests_makes_room_for_an_owner_who_has_nothing_open() -> None:
    world = World(workers=1, max_running=2)
    heavy = [world.add("heavy", evaluations=10_000) for _ in range(3)]
    world.rounds()
    world.work(0.1)
    assert len(world.stage.open_) == 2
    light = world.add("light")
    world.work(0.5)
    assert light in world.seen
    assert sum(world.records.get(id).state == "running" for id in heavy) <= 2


def test_nor_where_all_that_are_open_have_workers() -> None:
    world = World(workers=6, max_running=4)
    for _ in range(8):
        world.add("heavy", useful=3)
    world.rounds()
    assert len(world.stage.open_) == 4
    light = world.add("light")
    world.rounds(4)
    assert world.stage.lent.get(light)


def test_news_that_cannot_be_taken_in_does_not_lose_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    first, second = world.add(), world.add()
    world.rounds()
    monkeypatch.setattr(world.supervisor._rate, "add", lambda *_: (_ for _ in ()).throw(CanvasError("away")))
    world.stage.told.append(Progress(first, 0.5))
    world.stage.close(second, "later")
    world.supervisor.round(False)
    assert world.supervisor.stats()["running"] == 1


def test_a_driver_that_dies_again_and_again_ends_its_render() -> None:
    world = World()
    id = world.add()
    for _ in range(DEATHS):
        world.rounds()
        world.stage.close(id, None)
    world.rounds()
    record = world.records.get(id)
    assert (record.state, world.records.queued_ids()) == ("failed", [])
    assert str(DEATHS) in str(record.error)
    assert [event["event"] for event in read_feed(world.records.objects, id)][-1:] == ["failed"]


def test_what_metrics_show_of_a_service() -> None:
    """Its queue, its workers and their price, how renders ended and how long they waited."""
    world = World(workers=1, price_per_worker_hour=36.0)
    gone, finished, failed = world.add(), world.add(), world.add()
    world.records.change(gone, lambda record: record.but(cancel_asked=True))
    world.rounds(2, seconds=1.0)
    counts = world.book.batch()
    assert counts.counts[key("raytile_renders_ended_total", {"state": "cancelled"})] == 1
    told = {(name, *(value for _, value in labels)): value for (name, labels), value in counts.gauges.items()}
    assert (told["raytile_renders", "queued"], told["raytile_renders", "running"]) == (1, 1)
    assert (told["raytile_workers", "working"], told["raytile_workers", "coming"]) == (1, 0)
    world.rounds(10, seconds=1.0)
    assert world.book.batch().counts[key("raytile_cost_total", {})] == pytest.approx(10 * 36 / 3600)
    (first,) = world.stage.open_
    world.records.change(first, lambda record: record.but(state="finished", ended=world.now))
    world.stage.close(first, "finished")
    world.rounds()
    (second,) = world.stage.open_
    for _ in range(DEATHS):
        world.stage.close(second, None)
        world.rounds()
    batch = world.book.batch()
    ended = {dict(labels)["state"]: n for (name, labels), n in batch.counts.items() if name.endswith("ended_total")}
    assert {first, second} == {finished, failed}
    assert ended == {"finished": 1, "failed": 1}
    seen = [(name, labels) for (name, labels), _ in batch.seen]
    assert seen.count(("raytile_render_seconds", (("state", "failed"),))) == 1
    assert seen.count(("raytile_queue_wait_seconds", ())) == 1  # the first waited before, and a render waits once
    assert {value for (name, _), value in batch.gauges.items() if name == "raytile_renders"} == {0}


def test_another_service_is_left_alone_while_it_shows_life_and_taken_over_after_a_lease() -> None:
    objects = MemoryBytes()
    one = World(objects=objects, token="one", lease=10)
    id = one.add()
    one.supervisor.beat(1)
    one.rounds()
    other = World(objects=objects, token="other", lease=10)
    for beat in range(2, 6):
        one.supervisor.beat(beat)
        other.rounds(2, seconds=4.0)
        assert not other.stage.open_
    other.rounds(4, seconds=4.0)
    assert list(other.stage.open_) == [id]
    record = other.records.get(id)
    assert (record.service, record.claims) == ("other", 2)
    other.supervisor.beat(1)
    one.rounds()  # it wakes up, and lets go
    assert not one.stage.open_


def test_a_service_that_leaves_is_not_waited_for() -> None:
    objects = MemoryBytes()
    one = World(objects=objects, token="one", lease=1000)
    id = one.add()
    one.supervisor.beat(1)
    one.rounds()
    one.supervisor.leave()
    other = World(objects=objects, token="other", lease=1000)
    other.rounds(2)
    assert list(other.stage.open_) == [id]


def test_a_cancelled_render_of_a_dead_service_is_ended_and_told() -> None:
    world = World()
    id = world.add(service="gone", state="running", claims=1, cancel_asked=True)
    world.rounds()
    assert world.records.get(id).state == "cancelled"
    assert [event["event"] for event in read_feed(world.records.objects, id)] == ["cancelled"]


def test_idle_workers_end_after_their_time_and_not_before() -> None:
    world = World(warm_idle_s=5)
    id = world.add(useful=2)
    world.rounds()
    assert len(world.stage.lent[id]) == 2
    world.records.change(id, lambda now: now.but(state="finished"))
    world.stage.close(id, "finished")
    world.rounds(2, seconds=2.0)
    assert not world.stage.dismissed
    world.rounds(3, seconds=2.0)
    assert sorted(world.stage.dismissed) == [1, 2]
    assert world.supervisor.stats()["workers"] == 0


def test_workers_whose_node_goes_end_when_idle_and_are_replaced_in_time_when_not() -> None:
    world = World(workers=2, warm_idle_s=1000)
    id = world.add(useful=2)
    world.rounds()
    assert world.stage.lent[id] == {1, 2}
    world.stage.going = {1}
    world.rounds()
    assert (world.stage.hired, world.stage.dismissed) == (3, [])  # it paints on until it is called back by its render
    world.stage.lent[id].discard(1)
    world.stage.told.append(Returned(id, 1, True))
    world.rounds()
    assert (world.stage.hired, world.stage.dismissed) == (3, [1])
    assert world.stage.lent[id] == {2, 3}
    world.records.change(id, lambda now: now.but(state="finished"))
    world.stage.close(id, "finished")
    world.stage.going = {2}
    world.rounds()
    assert (world.stage.hired, world.stage.dismissed) == (3, [1, 2])


def test_a_beat_names_its_service() -> None:
    world = World(token="us")
    world.supervisor.beat(7)
    held = world.records.objects.read("services/us.json")
    assert held is not None
    assert json.loads(held[0])["beat"] == 7
