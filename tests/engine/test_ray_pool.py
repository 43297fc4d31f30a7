"""The Ray pool in trouble: processes killed, places missing, calls called off, nodes drained, and nothing left over."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raytile.api import canvas_layout, plan
from raytile.engine.pool import Crew, Setup
from raytile.engine.ray import draining
from raytile.engine.ray import pool as ray_pool
from raytile.engine.ray.actor import check_model
from raytile.engine.ray.pool import RayPool
from raytile.engine.ray.session import connected, fits
from raytile.errors import Abandoned, ClusterError, InvalidModel, WorkerLost
from tests.engine.pool_contract import employ, outcomes, values
from tests.engine.renders import toy_request

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
NOWHERE = {"num_cpus": 1, "resources": {"unobtainium": 1}}


@pytest.fixture
def pool() -> Iterator[RayPool]:
    pool = RayPool(Crew(3, 3))
    try:
        pool.connect(useful=3)
        employ(pool)
        yield pool
    finally:
        pool.close()


def until(done: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def actors_alive() -> int:
    from ray._private.state import actors

    return sum(1 for actor in actors().values() if actor["State"] != "DEAD")


def demand() -> int:
    """Workers that a cluster which grows would find a place for."""
    import ray
    from ray._private.worker import global_worker
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    assert ray.is_initialized()
    state = get_cluster_resource_state(GcsClient(global_worker.gcs_client.address))
    return sum(each.count for each in state.pending_resource_requests)


def test_a_killed_process_is_the_loss_of_its_worker_however_the_news_come(pool: RayPool) -> None:
    naps = [pool.call(number, "nap", 30.0)[0] for number in (0, 1)]
    waiting = [pool.call(2, "note", "late", naps[1])[0]]
    waiting += pool.call(1, "note", "never", waiting[0])
    time.sleep(0.3)
    os.kill(pool._places[1].pid, signal.SIGKILL)
    for outcome in outcomes(pool, [naps[1], *waiting]):
        assert outcome.lost == 1
        assert isinstance(outcome.error, WorkerLost)
        assert "worker 1 is lost: its worker process has died" in str(outcome.error)
        assert str(pool._places[1].pid) in str(outcome.error)
    log = str(outcome.error).rsplit(": ", 1)[1]
    assert Path(log).is_file()
    assert pool.workers() == pool.placed() == (0, 2)
    assert values(pool, pool.call(2, "notes")) == [[]]
    (new,) = pool.hire(1)
    until(lambda: new in pool.placed())
    pool.cancel(naps)


def test_all_killed_at_once_are_all_lost(pool: RayPool) -> None:
    naps = [pool.call(number, "nap", 30.0)[0] for number in pool.workers()]
    for place in pool._places.values():
        os.kill(place.pid, signal.SIGKILL)
    assert [outcome.lost for outcome in outcomes(pool, naps)] == [0, 1, 2]
    assert pool.workers() == ()


def test_calls_called_off_end_though_each_waits_for_another(pool: RayPool) -> None:
    """Every worker is in the middle of a call, with others behind it that wait for the other workers' calls."""
    naps = [pool.call(number, "nap", 60.0)[0] for number in pool.workers()]
    behind = [pool.call(number, "note", "b", naps[number - 1])[0] for number in pool.workers()]
    idle = [pool.call(number, "note", "c")[0] for number in pool.workers()]
    split = pool.call(0, "split", 1, 2, returns=2)
    time.sleep(0.2)
    pool.cancel([*naps, *behind, *idle, split[0]])
    later = [pool.call(number, "note", "later", *(idle if number == 0 else []))[0] for number in pool.workers()]
    for outcome in outcomes(pool, [*naps, *behind, *idle, *split, later[0]]):
        assert isinstance(outcome.error, Abandoned)
        assert outcome.lost is None
    assert values(pool, later[1:]) == ["later"] * 2
    assert values(pool, [pool.call(number, "notes")[0] for number in (0, 1, 2)]) == [[], ["later"], ["later"]]


def test_workers_without_a_place_are_demand_that_ends_with_the_pool() -> None:
    before = actors_alive()
    pool = RayPool(Crew(1, 1))
    try:
        pool.connect(useful=1)
        pool._options = NOWHERE
        pool._kind = pool._actor_kind()
        pool.hire(4)
        assert pool.workers() == (0, 1, 2, 3, 4)
        assert pool.placed() == (0,)
        until(lambda: demand() == 4)
        pool.release(2)
        until(lambda: demand() == 3)
        assert pool.workers() == (0, 1, 3, 4)
    finally:
        pool.close()
    until(lambda: demand() == 0)
    until(lambda: actors_alive() == before)


def test_long_runs_leave_no_references(pool: RayPool) -> None:
    """200 steps in which all workers exchange messages, as a render does."""
    import gc

    from ray._private.worker import global_worker

    def known() -> int:
        gc.collect()
        return len(global_worker.core_worker.get_all_reference_counts())

    before, sent = known(), {number: pool.call(number, "note", 0)[0] for number in pool.workers()}
    for step in range(200):
        said = {number: pool.call(number, "split", step, step, returns=2) for number in pool.workers()}
        sent = {n: pool.call(n, "note", step, said[(n + 1) % 3][0], said[(n + 2) % 3][1])[0] for n in pool.workers()}
        if step % 4 == 0:
            values(pool, sent.values())
    values(pool, sent.values())
    del said, sent
    until(lambda: known() <= before)


@pytest.mark.parametrize(
    ("crew", "useful", "settled"),
    [
        ((None, None), 2, (2, 2)),
        ((None, None), 99, (8, 8)),
        ((3, 3), 2, (3, 3)),
        ((1, 4096), 3, (1, 3)),
        ((2, 4), 1, (1, 1)),
    ],
)
def test_how_many_workers_there_are(
    crew: tuple[int | None, int | None], useful: int, settled: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = RayPool(Crew(*crew))
    monkeypatch.setattr(pool, "_place", lambda: None)
    asked: list[int] = []
    monkeypatch.setattr(pool, "hire", asked.append)
    pool.connect(useful)
    assert (pool.least, pool.most) == settled
    assert asked == [settled[1]]


def test_another_raytile_on_a_node_is_told_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "__version__", "99.1")
    with contextlib.closing(RayPool(Crew(1, 1))) as pool, pytest.raises(ClusterError) as told:
        pool.connect(useful=1)
    assert os.uname().nodename in str(told.value)
    assert "and 99.1 here: install one version on every node" in str(told.value)


def test_a_model_that_differs_is_told_with_the_host() -> None:
    settled = plan(toy_request())
    check_model(settled, "here")
    other = replace(settled, spec=replace(settled.spec, digest="0" * 64))
    with pytest.raises(InvalidModel, match="model 'toy' on there is not the one that was planned with"):
        check_model(other, "there")
    missing = replace(settled, request=settled.request.model_copy(update={"model": "/no/such/folder"}))
    with pytest.raises(InvalidModel, match="on there: no model"):
        check_model(missing, "there")


def test_a_module_stays_loaded_from_render_to_render(tmp_path: Path) -> None:
    import ray

    def module(pool: RayPool) -> Any:
        return ray.get(pool._actors[0].__ray_call__.remote(lambda actor: id(actor._worker.module)))

    def load(pool: RayPool, **wish: Any) -> None:
        settled = plan(toy_request(**wish))
        layout = canvas_layout(settled)
        (tmp_path / ".raytile.t.proof").write_text("t")
        (ready,) = values(pool, [pool.load(0, Setup(settled, str(tmp_path / "a.zarr"), layout, "cpu", "t"))])
        assert ready.worker == 0

    with contextlib.closing(RayPool(Crew(1, 1))) as pool:
        pool.connect(useful=1)
        load(pool)
        first = module(pool)
        load(pool, prompt="another", width=300)
        assert module(pool) == first
        load(pool, dtype="bfloat16")
        assert module(pool) != first


def test_workers_on_a_draining_node_are_told_with_the_time_that_is_left(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert dict(pool.leaving()) == {}
    answers: dict[str, float] = {pool._places[1].node: time.time() + 30, "another": time.time()}
    monkeypatch.setattr(draining, "ask", lambda: answers)
    pool._places = {0: replace(pool._places[0], node="safe"), 1: pool._places[1], 2: pool._places[2]}
    assert dict(pool.leaving()) == {}, "asked again too soon"
    pool._draining._clock = lambda: time.monotonic() + draining.ASK_EVERY
    seconds = pool.leaving()
    assert set(seconds) == {1, 2}
    assert all(20 < left <= 30 for left in seconds.values())
    pool.release(2)
    assert set(pool.leaving()) == {1}

    def broken() -> dict[str, float]:
        raise AttributeError("no such call any more")

    monkeypatch.setattr(draining, "ask", broken)
    pool._draining._asked = -1e9
    assert dict(pool.leaving()) == {}
    pool._draining._asked = -1e9
    assert dict(pool.leaving()) == {}
    assert [record.message for record in caplog.records].count(
        "Ray does not tell which nodes are draining (AttributeError: no such call any more)"
    ) == 1


def test_ray_answers_which_nodes_drain() -> None:
    assert draining.ask() == {}


def test_several_renders_share_one_ray(ray_cluster: str) -> None:
    import ray

    with connected(), connected(ray_cluster):
        assert ray.is_initialized()
    assert ray.is_initialized(), "the session's own Ray is not ours to end"
    with pytest.raises(ClusterError, match="another Ray"), connected("127.0.0.1:1"):
        pass


def test_how_many_fit() -> None:
    assert fits({"CPU": 8.0}, {"num_cpus": 3}) == 2
    assert fits({"CPU": 8.0, "GPU": 1.0}, {"num_gpus": 0.1}) == 10
    assert fits({"CPU": 8.0, "tile": 3.0}, {"num_cpus": 1, "resources": {"tile": 1}}) == 3
    assert fits({"CPU": 8.0}, {"num_gpus": 1}) == 0
