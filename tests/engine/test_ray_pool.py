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
from raytile.engine.ray.session import fits
from raytile.errors import Abandoned, ClusterError, InvalidModel, WorkerLost
from tests.engine.pool_contract import employ, outcomes, values
from tests.engine.renders import toy_request

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
NOWHERE = {"num_cpus": 1, "resources": {"unobtainium": 1}}


@pytest.fixture(scope="module")
def shared(ray_cluster: str) -> Iterator[RayPool]:  # noqa: ARG001 (the Ray that the pool finds)
    with contextlib.closing(RayPool(Crew(3, 3))) as pool:
        pool.connect(useful=3)
        yield pool


@pytest.fixture
def pool(shared: RayPool) -> RayPool:
    """Three placed workers, each a new `Clerk`; their numbers are whatever the tests before have left."""
    shared.hire(3 - len(shared.workers()))
    employ(shared)
    assert len(shared.placed()) == 3
    return shared


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
    a, b, c = pool.workers()
    long, nap = pool.call(a, "nap", 60.0)[0], pool.call(b, "nap", 60.0)[0]
    (waits,) = pool.call(c, "note", "late", nap)
    (waits_for_that,) = pool.call(b, "note", "never", waits)
    time.sleep(0.3)
    os.kill(pool._places[b].pid, signal.SIGKILL)
    for outcome in outcomes(pool, [nap, waits, waits_for_that]):
        assert outcome.lost == b
        assert isinstance(outcome.error, WorkerLost)
        assert f"worker {b} is lost: its worker process has died; pid {pool._places[b].pid} on " in str(outcome.error)
        assert Path(str(outcome.error).rsplit(": ", 1)[1]).is_file(), "its log"
    assert pool.workers() == pool.placed() == (a, c)
    assert values(pool, pool.call(c, "notes")) == [[]]
    (new,) = pool.hire(1)
    until(lambda: new in pool.placed())
    pool.cancel([long])
    assert isinstance(outcomes(pool, [long])[0].error, Abandoned)


def test_all_killed_at_once_are_all_lost(pool: RayPool) -> None:
    workers = pool.workers()
    naps = [pool.call(number, "nap", 60.0)[0] for number in workers]
    for number in workers:
        os.kill(pool._places[number].pid, signal.SIGKILL)
    assert [outcome.lost for outcome in outcomes(pool, naps)] == list(workers)
    assert pool.workers() == ()


def test_calls_called_off_end_though_each_waits_for_another(pool: RayPool) -> None:
    """Every worker is in the middle of a call, with others behind it that wait for the other workers' calls."""
    workers = pool.workers()
    naps = [pool.call(number, "nap", 60.0)[0] for number in workers]
    behind = [pool.call(number, "note", "b", naps[k - 1])[0] for k, number in enumerate(workers)]
    idle = [pool.call(number, "note", "c")[0] for number in workers]
    split = pool.call(workers[0], "split", 1, 2, returns=2)
    time.sleep(0.2)
    pool.cancel([*naps, *behind, *idle, split[0]])
    taker = pool.call(workers[0], "note", "d", idle[1])
    later = [pool.call(number, "note", "later")[0] for number in workers]
    for outcome in outcomes(pool, [*naps, *behind, *idle, *split, *taker]):
        assert isinstance(outcome.error, Abandoned)
        assert outcome.lost is None
    assert values(pool, later) == ["later"] * 3
    assert values(pool, [pool.call(number, "notes")[0] for number in workers]) == [["later"]] * 3


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

    workers = pool.workers()
    before, sent = known(), {number: pool.call(number, "note", 0)[0] for number in workers}
    for step in range(200):
        said = {number: pool.call(number, "split", step, step, returns=2) for number in workers}
        sent = {
            number: pool.call(number, "note", step, said[workers[k - 1]][0], said[workers[k - 2]][1])[0]
            for k, number in enumerate(workers)
        }
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


def test_a_module_stays_loaded_from_render_to_render(pool: RayPool, tmp_path: Path) -> None:
    import ray

    worker = pool.workers()[0]

    def load(**wish: Any) -> bool:
        """Load; does the worker have the module it had?"""
        settled = plan(toy_request(**wish))
        (tmp_path / ".raytile.t.proof").write_text("t")
        setup = Setup(settled, str(tmp_path / "a.zarr"), canvas_layout(settled), "cpu", "t")
        (ready,) = values(pool, [pool.load(worker, setup)])
        assert ready.worker == worker

        def same(actor: Any) -> bool:
            before, actor.before = getattr(actor, "before", None), actor._worker.module
            return before is actor.before

        return bool(ray.get(pool._actors[worker].__ray_call__.remote(same)))

    assert not load()
    assert load(prompt="another", width=300)
    assert not load(dtype="bfloat16")


def test_workers_on_a_draining_node_are_told_with_the_time_that_is_left(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c = pool.workers()
    now = 0.0
    monkeypatch.setattr(pool, "_draining", draining.Draining(lambda: now))
    assert dict(pool.leaving()) == {}
    answers = {pool._places[b].node: time.time() + 30, "another": time.time()}
    monkeypatch.setattr(draining, "ask", lambda: answers)
    monkeypatch.setattr(pool, "_places", {**pool._places, a: replace(pool._places[a], node="safe")})
    assert dict(pool.leaving()) == {}, "asked again too soon"
    now += draining.ASK_EVERY
    seconds = pool.leaving()
    assert set(seconds) == {b, c}
    assert all(20 < left <= 30 for left in seconds.values())
    pool.release(c)
    assert set(pool.leaving()) == {b}

    def broken() -> dict[str, float]:
        raise AttributeError("no such call any more")

    monkeypatch.setattr(draining, "ask", broken)
    for _ in range(2):
        now += draining.ASK_EVERY
        assert dict(pool.leaving()) == {}
    assert [record.message for record in caplog.records].count(
        "Ray does not tell which nodes are draining (AttributeError: no such call any more)"
    ) == 1


def test_ray_answers_which_nodes_drain() -> None:
    assert draining.ask() == {}


def test_a_pool_serves_one_render_after_the_other(pool: RayPool) -> None:
    before = pool.workers()
    pool.connect(useful=1)
    assert pool.workers() == before
    pool.release(before[1])
    pool.connect(useful=1)
    after = pool.workers()
    assert set(before) - set(after) == {before[1]}
    assert len(after) == 3
    assert max(after) > max(before)


def test_a_process_that_is_connected_elsewhere_is_told() -> None:
    with contextlib.closing(RayPool(address="127.0.0.1:1")) as pool, pytest.raises(ClusterError, match="another Ray"):
        pool.connect(useful=1)


def test_how_many_fit() -> None:
    assert fits({"CPU": 8.0}, {"num_cpus": 3}) == 2
    assert fits({"CPU": 8.0, "GPU": 1.0}, {"num_gpus": 0.1}) == 10
    assert fits({"CPU": 8.0, "tile": 3.0}, {"num_cpus": 1, "resources": {"tile": 1}}) == 3
    assert fits({"CPU": 8.0}, {"num_gpus": 1}) == 0
