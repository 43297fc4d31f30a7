"""The Ray pool: the same bits as in one process, laws 4 to 6 on real actors, and what happens when one dies."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.api import plan, render
from raytile.engine.pool import Crew, Outcome, Ref
from raytile.engine.ray.pool import RayPool
from raytile.engine.ray.session import worker_options
from raytile.errors import ClusterError, InvalidRequest
from raytile.events import Event, PhaseDone
from raytile.plan.phases import Phase, phases, reads_before, route
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition
from tests.engine.renders import digests, paint, toy_request

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


OTHER = {"sync": "overlap", "wrap": "xy", "width": 640, "sampler": "euler_ancestral"}


def test_the_driver_never_imports_torch(ray_cluster: str, tmp_path: Path) -> None:
    """Law 4, in a process of its own, over a whole render on Ray."""
    code = (
        f"import sys, ray; ray.init(address={ray_cluster!r}, log_to_driver=False)\n"
        "from raytile.api import render; from raytile.plan.request import RenderRequest\n"
        f"render(RenderRequest(prompt='x', width=256, height=128, model='toy', steps=2), {str(tmp_path / 'a.zarr')!r},"
        " workers=2, device='cpu')\n"
        "found = {'torch', 'diffusers', 'transformers'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


class WatchedPool(RayPool):
    """Counts what comes to the driver, and can make a worker nap before one of its calls: (worker, level, step)."""

    def use(self, workers: int, nap: tuple[int, int, int] = (-1, -1, -1), ahead: int = 4) -> WatchedPool:
        """Get ready for a render by so many workers."""
        self._crew, self.ahead, self.nap = Crew(workers, workers), ahead, nap
        self.seconds = 3.0
        self.biggest = 0
        self.early: dict[int, Ref] = {}
        self.overtook: list[bool] = []
        return self

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        import ray

        sleeper, level, step = self.nap
        nap = self.seconds
        if worker == sleeper and method == "step" and args[2:4] == (level, step):
            self._actors[worker].__ray_call__.remote(lambda _self: time.sleep(nap))
        refs = super().call(worker, method, *args, returns=returns)
        if method == "early" and args[1:] == (level, step + 1):
            self.early[worker] = refs[0]
        elif method == "step" and args[2:4] == (level, step + 1) and worker in self.early and worker != sleeper:
            inside, _ = ray.wait([self.early[worker]], timeout=nap / 2)
            across, _ = ray.wait([refs[0]], timeout=0)
            self.overtook.append(bool(inside) and not across)
        return refs

    def wait(self, refs: Any, timeout: float) -> list[Outcome]:
        outcomes = super().wait(refs, timeout)
        self.biggest = max([self.biggest, *(len(pickle.dumps(o.value)) for o in outcomes)])
        return outcomes


@pytest.fixture(scope="module")
def watched(ray_cluster: str) -> Iterator[WatchedPool]:  # noqa: ARG001 (the Ray that the pool finds)
    """One pool for several tests: loading torch takes a worker longer than any of their renders."""
    with contextlib.closing(WatchedPool()) as pool:
        yield pool


@pytest.mark.parametrize(("wish", "counts"), [({}, (1, 3)), (OTHER, (3,))])
def test_on_ray_the_picture_is_the_same_for_any_number_of_workers(
    wish: dict[str, Any], counts: tuple[int, ...], watched: WatchedPool, tmp_path: Path
) -> None:
    request = toy_request(**wish)
    _, alone = paint(request, tmp_path / "alone.zarr")
    for workers in counts:
        canvas = render(request, tmp_path / f"{workers}.zarr", pool=watched.use(workers), device="cpu")
        summary = canvas.head().summary
        assert summary is not None
        assert digests(summary) == digests(alone)
        assert summary["evaluations"] == summary["evaluations_planned"] == alone["evaluations"]
        assert summary["bytes_exchanged"] == summary["bytes_planned"]
        assert summary["workers"] == workers == len(summary["peak_rss_bytes"]["workers"])


def test_nothing_but_small_reports_comes_to_the_driver(watched: WatchedPool, tmp_path: Path) -> None:
    pool = watched.use(3)
    render(toy_request(width=1600, height=400, steps=2), tmp_path / "a.zarr", pool=pool, device="cpu")
    assert 0 < pool.biggest < 2048


def hanging(request: RenderRequest, workers: int, number: int) -> set[tuple[int, int]]:
    """(worker, phase) that cannot finish before worker 0 has done phase `number`."""
    settled, partition = plan(request), Partition.even(workers)
    course = phases(settled)
    late = {(0, number)}
    for phase in range(number + 1, len(course)):
        before = course[phase - 1]
        if before.kind == "step":
            pairs = set(route(settled, partition, before.level, before.step).pairs)
        else:
            pairs = set(reads_before(settled, partition, course[phase]))
        asleep = {worker for worker, at in late if at == phase - 1}
        late |= {(to, phase) for sender, to in pairs | {(w, w) for w in range(workers)} if sender in asleep}
    return late


def test_neighbours_wait_for_neighbours_and_nobody_for_everybody(watched: WatchedPool, tmp_path: Path) -> None:
    """Law 6: while worker 0 naps before it predicts step s, a worker k hops away predicts steps s to s + k - 1, so it
    finishes k - 1 further steps; and nothing happens that hangs on the one that sleeps."""
    workers, step = 5, 2
    request = toy_request(width=workers * 4 * 128, height=128, tile=256, steps=8, levels=1)
    course = phases(plan(request))
    number = course.index(Phase("step", 0, step))
    seen: list[PhaseDone] = []

    def see(event: Event) -> None:
        if isinstance(event, PhaseDone):
            seen.append(event)

    pool = watched.use(workers, nap=(0, 0, step), ahead=8)
    render(request, tmp_path / "a.zarr", pool=pool, device="cpu", listeners=[see])
    asleep = hanging(request, workers, number)
    woke = next(i for i, event in enumerate(seen) if (event.worker, event.phase) == (0, number))
    for hops in range(1, workers):
        meanwhile = [event.phase for event in seen[:woke] if event.worker == hops and event.phase >= number]
        assert len(meanwhile) >= min(hops, len(course) - number)
        assert meanwhile == [phase for phase in range(number, len(course)) if (hops, phase) not in asleep]


def test_windows_that_hang_on_nobody_are_predicted_while_messages_are_on_their_way(
    watched: WatchedPool, tmp_path: Path
) -> None:
    pool = watched.use(2, nap=(0, 0, 1))
    wish = toy_request(width=2048, height=256, tile=256, steps=3, levels=1)
    render(wish, tmp_path / "a.zarr", pool=pool, device="cpu")
    assert pool.overtook == [True]


def test_a_picture_whose_worker_was_killed_is_the_same(watched: WatchedPool, tmp_path: Path) -> None:
    request = toy_request(steps=6)
    _, alone = paint(request, tmp_path / "alone.zarr")
    pool = watched.use(3)

    def kill(event: Event) -> None:
        if isinstance(event, PhaseDone) and event.phase == 3 and event.worker == 1 and 1 in pool.workers():
            os.kill(pool._places[1].pid, signal.SIGKILL)

    canvas = render(request, tmp_path / "a.zarr", pool=pool, device="cpu", snapshot_every=1, listeners=[kill])
    summary = canvas.head().summary
    assert summary is not None
    assert digests(summary) == digests(alone)
    assert summary["rollbacks"] == 1


def test_workers_that_find_no_place_are_an_error_that_says_what_is_free(tmp_path: Path) -> None:
    pool = RayPool(Crew(2, 2), options={"num_cpus": 1, "resources": {"unobtainium": 1}}, deadline=1.0)
    with (
        contextlib.closing(pool),
        pytest.raises(ClusterError, match=r"2 of 2 workers found no place .* free is .*'CPU'"),
    ):
        render(toy_request(), tmp_path / "a.zarr", pool=pool)
    assert not list(tmp_path.iterdir())


def test_no_such_address_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        code = (
            "from raytile.api import render; from raytile.plan.request import RenderRequest\n"
            f"render(RenderRequest(prompt='x', width=99, height=99, model='toy'), {str(tmp_path / 'a.zarr')!r},"
            f" address={address!r})\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stderr.splitlines()[-1].startswith(f"raytile.errors.ClusterError: no Ray answers at {address}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"gpus": 1}'])
def test_worker_resources_are_checked(text: str) -> None:
    with pytest.raises(InvalidRequest):
        worker_options(text)
