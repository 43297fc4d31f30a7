"""The supervisor on a real Ray: renders outlive its processes, and each is completed once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from raytile.api import render
from raytile.serve.cast import SupervisorActor
from raytile.serve.deployment import RayChoir, end_supervisor
from raytile.serve.desk import Desk, open_records
from raytile.serve.feed import read_feed
from raytile.serve.keys import Keys
from raytile.serve.records import Record
from raytile.serve.schemas import Wish
from raytile.serve.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
STEPS = 40
LONG = 150


def until(done: Callable[[], object], seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


class House:
    """A desk on a store, with the one supervisor of this Ray."""

    def __init__(self, store: Path) -> None:
        self.settings = Settings.load(
            store=str(store), models={"toy": "toy"}, max_workers=2, lease=2, warm_idle_s=1, max_steps=LONG
        )
        self.records = open_records(self.settings, time.time)
        self.choir = RayChoir(self.settings, "first")
        keys = Keys(self.records.objects, time.time)
        self.desk = Desk(self.settings, self.records, keys, self.choir, time.time, random.Random(0))

    def paint(self, steps: int = STEPS, owner: str = "local", **wish: Any) -> str:
        made = Wish.model_validate({"prompt": "islands", "size": "256x256", "steps": steps, **wish})
        return self.desk.submit(owner, made).id

    def get(self, id: str) -> Record:
        return self.records.get(id)

    def steps(self, id: str) -> int:
        told = [event["data"]["done"] for event in read_feed(self.records.objects, id) if event["event"] == "step"]
        return max(told, default=0)

    def over(self, *ids: str) -> bool:
        """Whether these have ended, and their watchers know."""
        return all(self.get(id).terminal and self.endings(id) for id in ids)

    def endings(self, id: str) -> list[str]:
        names = [event["event"] for event in read_feed(self.records.objects, id)]
        return [name for name in names if name in ("finished", "failed", "cancelled")]


def pids(kind: str) -> list[int]:
    """Processes of this session's Ray that run actors of this kind."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith(f"ray::{kind}") and (raylet := process.parent()) is not None:
            found += [process.pid] * (os.environ["RAY_TMPDIR"] in " ".join(raylet.cmdline()))
    return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "store")
    yield house
    with suppress(ValueError):  # one test has ended it
        end_supervisor(house.settings)
    until(lambda: not pids("WorkerActor") and not pids("Conductor"))


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Record], str]:
    """What a record's picture should be, painted in this process."""
    known: dict[str, str] = {}

    def painted(record: Record) -> str:
        name = record.request.model_dump_json()
        if name not in known:
            place = tmp_path_factory.mktemp("alone") / "a.zarr"
            known[name] = (render(record.request, place, in_process=True).head().summary or {})["pixels_sha256"]
        return known[name]

    return painted


def test_renders_outlive_their_driver_worker_and_supervisor(house: House, digest: Callable[[Record], str]) -> None:
    ids = [house.paint(LONG), house.paint(LONG, owner="other"), house.paint()]
    until(lambda: house.steps(ids[0]) > 20)
    for kind in ("Conductor", "WorkerActor", "SupervisorActor"):
        assert not house.over(*ids)
        os.kill(pids(kind)[0], signal.SIGKILL)
        until(lambda: house.choir.stats()["ready"])
        time.sleep(1.0)
    until(lambda: house.over(*ids))
    for id in ids:
        record = house.get(id)
        assert (record.state, record.error) == ("finished", None)
        assert record.digest == digest(record)
        assert house.endings(id) == ["finished"]
    assert house.records.queued_ids() == []
    until(lambda: not pids("WorkerActor") and not pids("Conductor"))  # warm_idle_s has passed: nodes may go
    assert house.choir.stats()["workers"] == 0


def test_a_light_render_need_not_wait_for_a_heavy_one(house: House) -> None:
    heavy = house.paint(LONG, size="512x512")
    until(lambda: house.steps(heavy) > 10)
    light = house.paint(steps=4)
    until(lambda: house.over(light))
    assert not house.over(heavy)
    began = next(event for event in read_feed(house.records.objects, light) if event["event"] == "step")
    assert began
    house.desk.cancel("local", heavy)
    until(lambda: house.over(heavy), 20)
    assert house.endings(heavy) == ["cancelled"]


def test_who_ends_leaves_its_renders_to_the_other_service(house: House, digest: Callable[[Record], str]) -> None:
    import ray

    id = house.paint(LONG, size="512x512")
    until(lambda: house.steps(id) > 10)
    other = ray.remote(concurrency_groups={"told": 4})(SupervisorActor).options(num_cpus=0)
    second = other.remote(house.settings, "second")
    time.sleep(3.0)  # longer than a lease: the first shows signs of life
    assert house.get(id).service == "first"
    assert not house.over(id)
    end_supervisor(house.settings)
    until(lambda: house.over(id))
    record = house.get(id)
    assert (record.state, record.service, record.digest) == ("finished", "second", digest(record))
    assert house.endings(id) == ["finished"]
    ray.kill(second)
