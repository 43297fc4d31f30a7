"""A render by workers that are lent: they come late, are called back, come again; and the picture is the same."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.api import render
from raytile.engine.ray.lent import LentPool
from raytile.events import Event, RenderStarted, RolledBack, StepDone, WorkerJoined, WorkerLeft
from tests.engine.renders import toy_request
from tests.engine.test_pool import Bank

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
REQUEST = toy_request(steps=30, tile=128)


@pytest.fixture
def bank() -> Iterator[Bank]:
    with contextlib.closing(Bank()) as bank:
        yield bank


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return render(REQUEST, tmp_path_factory.mktemp("alone") / "a.zarr", in_process=True).digests()


def paint(bank: Bank, out: Path, look: Callable[[Event], None]) -> tuple[str, str]:
    with contextlib.closing(LentPool(bank.loans, bank, 3)) as pool:
        return render(REQUEST, out, pool=pool, device="cpu", listeners=[look]).digests()


def again(bank: Bank, key: int) -> None:
    """Lend a worker once more."""
    import ray

    from raytile.engine.ray.lent import Grant
    from raytile.engine.ray.verdict import Place

    actor = bank.actors[key]
    bank.loans.grant(Grant(key, actor, Place(**ray.get(actor.placed.remote()))))


def test_workers_that_come_late_join_and_all_come_back(bank: Bank, digests: Any, tmp_path: Path) -> None:
    seen: list[Event] = []

    def look(event: Event) -> None:
        seen.append(event)
        if isinstance(event, RenderStarted):
            threading.Timer(0.3, bank.lend, [1]).start()
        if isinstance(event, StepDone) and event.done >= 5 and len(bank.actors) == 1:
            bank.lend(1)
        if isinstance(event, StepDone) and not any(isinstance(one, WorkerJoined) for one in seen):
            time.sleep(0.2)  # it takes a while to load

    assert paint(bank, tmp_path / "a.zarr", look) == digests
    assert any(isinstance(event, WorkerJoined) for event in seen)
    assert sorted(bank.back) == [(0, True), (1, True)]


def test_the_last_worker_that_is_called_back_stores_what_it_did(bank: Bank, digests: Any, tmp_path: Path) -> None:
    seen: list[Event] = []

    def look(event: Event) -> None:
        seen.append(event)
        if isinstance(event, StepDone) and event.done >= 20 and not bank.back:  # some steps are told together
            bank.loans.call_back(0)
        if isinstance(event, WorkerLeft):
            assert event.members == ()
            threading.Timer(0.5, again, [bank, 0]).start()

    bank.lend(1)
    assert paint(bank, tmp_path / "a.zarr", look) == digests
    assert bank.back == [(0, True), (0, True)]
    assert [type(event) for event in seen if isinstance(event, WorkerLeft)] == [WorkerLeft]
    assert all(event.phase > 0 for event in seen if isinstance(event, RolledBack))


def test_a_worker_that_dies_is_not_given_back_as_fit(bank: Bank, digests: Any, tmp_path: Path) -> None:
    import ray

    def look(event: Event) -> None:
        if isinstance(event, StepDone) and event.done >= 10 and len(bank.actors) == 2:
            ray.kill(bank.actors[0])
            bank.lend(1)

    bank.lend(2)
    assert paint(bank, tmp_path / "a.zarr", look) == digests
    assert sorted(bank.back) == [(0, False), (1, True), (2, True)]
