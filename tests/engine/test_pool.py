"""The pools against their one contract, and the troubled pool that the engine's tests are made with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from raytile.engine.local import Kept, LocalPool
from raytile.engine.pool import Crew, Pool
from raytile.engine.ray.actor import CONTROL, WorkerActor
from raytile.engine.ray.lent import Grant, LentPool, Loans
from raytile.engine.ray.pool import RayPool
from raytile.engine.ray.verdict import Place
from raytile.errors import WorkerLost
from tests.engine.pool_contract import Clerk, Contract, employ, outcomes, values
from tests.engine.trouble import TroubledPool


class TestLocalPool(Contract):
    @pytest.fixture
    def pool(self) -> Iterator[Pool]:
        pool = LocalPool(3)
        pool.connect(useful=1)
        for number in pool.workers():
            pool._workers[number] = Clerk(number)
        yield pool
        pool.close()


@pytest.mark.ray
class TestRayPool(Contract):
    @pytest.fixture(scope="class")
    def shared(self, ray_cluster: str) -> Iterator[RayPool]:  # noqa: ARG002 (the Ray that the pool finds)
        pool = RayPool(Crew(3, 3))
        pool.connect(useful=1)
        yield pool
        pool.close()

    @pytest.fixture
    def pool(self, shared: RayPool) -> Pool:
        shared.hire(3 - len(shared.workers()))
        employ(shared)
        return shared


def wake(_: Any) -> None:
    """Import what a worker needs, so that it loads at once."""
    import raytile.engine.worker  # noqa: F401 (only loaded)


class Bank:
    """Who lends workers: every one that came back fit is lent again."""

    def __init__(self) -> None:
        import ray

        self.kind = ray.remote(concurrency_groups={CONTROL: 1})(WorkerActor).options(num_cpus=1)
        self.loans = Loans()
        self.back: list[tuple[int, bool]] = []
        self.actors: dict[int, Any] = {}

    def lend(self, count: int) -> None:
        import ray

        for key in range(len(self.actors), len(self.actors) + count):
            self.actors[key] = actor = self.kind.remote()
            ray.get(actor.__ray_call__.remote(wake))
            self.loans.grant(Grant(key, actor, Place(**ray.get(actor.placed.remote()))))

    def returned(self, key: int, fit: bool) -> None:
        self.back.append((key, fit))

    def close(self) -> None:
        import ray

        for actor in self.actors.values():
            ray.kill(actor)


@pytest.mark.ray
class TestLentPool(Contract):
    @pytest.fixture
    def pool(self, ray_cluster: str) -> Iterator[Pool]:  # noqa: ARG002 (the Ray that the pool finds)
        with contextlib.closing(Bank()) as bank, contextlib.closing(LentPool(bank.loans, bank, 3)) as pool:
            bank.lend(3)
            pool.connect(useful=3)
            employ(pool)
            yield pool


def troubled(*args: Any, **script: Any) -> TroubledPool:
    pool = TroubledPool(*args, **script)
    pool.connect(useful=1)
    pool._workers = {number: Clerk(number) for number in pool.workers()}
    return pool


class TestTroubledPool(Contract):
    @pytest.fixture
    def pool(self) -> Iterator[Pool]:
        with contextlib.closing(troubled(3)) as pool:
            yield pool


def test_a_script_can_lose_a_worker() -> None:
    pool = troubled(2, lose={2: 1})
    before, lost = pool.call(1, "note", "a"), pool.call(1, "note", "b")
    taker = pool.call(0, "note", "c", *lost)
    assert values(pool, before) == ["a"]
    for outcome in outcomes(pool, [*lost, *taker]):
        assert isinstance(outcome.error, WorkerLost)
        assert outcome.lost == 1
    assert pool.workers() == (0,)


def test_a_script_can_have_workers_come_and_go() -> None:
    pool = troubled(1, arrive={2: 2}, leave={3: 0})
    assert (pool.least, pool.most, pool.workers(), pool.placed()) == (1, 3, (0, 1, 2), (0,))
    pool.call(0, "note", "a")
    assert pool.placed() == (0,)
    pool.call(0, "note", "b")
    assert pool.placed() == (0, 1, 2)
    assert pool.hire(1) == (3,)
    assert pool.placed() == (0, 1, 2)
    assert dict(pool.leaving()) == {}
    pool.call(0, "note", "c")
    assert set(pool.leaving()) == {0}
    pool.release(0)
    assert dict(pool.leaving()) == {}


def test_a_load_waits_for_a_place_and_waiting_passes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalPool, "load", lambda _pool, worker, _setup: Kept(f"worker {worker} is ready"))
    pool = troubled(1, arrive={3: 1})
    refs = [pool.load(number, None) for number in pool.workers()]  # type: ignore[arg-type]
    assert [outcome.value for outcome in pool.wait(refs, 1.0)] == ["worker 0 is ready"]
    assert pool.wait(refs[1:], 1.0) == pool.wait(refs[1:], 1.0) == []
    assert values(pool, refs[1:]) == ["worker 1 is ready"]
