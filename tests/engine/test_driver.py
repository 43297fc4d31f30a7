"""How a render ends when things go wrong: what is told, what is on disk, who hears of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from raytile.api import cancel, render
from raytile.canvas import shared, store
from raytile.canvas.canvas import Canvas
from raytile.engine.local import LocalPool
from raytile.engine.pool import Outcome, Ref
from raytile.engine.worker import Worker
from raytile.errors import CanvasError, InvalidRequest, RenderCancelled, RenderFailed
from raytile.events import Event, PhaseDone, RenderFinished, RenderStopped, StepDone, TileDone, WorkerLost, WorkerReady
from tests.engine.renders import digests, paint, toy_request


def start(out: Path, listener: Any = lambda _: None) -> Canvas:
    """A render in this process by two workers."""
    return render(toy_request(), out, workers=2, in_process=True, listeners=[listener])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_between_steps_and_the_canvas_says_so(number: signal.Signals, tmp_path: Path) -> None:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        if isinstance(event, StepDone) and (event.level, event.step) == (1, 1):
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(RenderCancelled, match="is cancelled and keeps 0 of 6 tiles"):
        start(tmp_path / "a.zarr", listener)
    assert signal.getsignal(number) == handler
    head = store.open(tmp_path / "a.zarr").head()
    assert (head.state, head.level) == ("cancelled", 1)
    assert isinstance(heard[-1], RenderStopped)


def test_a_signal_during_the_last_commit_leaves_a_finished_canvas(tmp_path: Path) -> None:
    """The interrupt is heeded between events, and after the last there is nothing left to stop."""

    def listener(event: Event) -> None:
        if isinstance(event, TileDone):
            os.kill(os.getpid(), signal.SIGINT) if len(done) == 5 else done.append(event.tile)

    done: list[int] = []
    canvas = start(tmp_path / "a.zarr", listener)
    assert canvas.head().state == "finished"


def test_two_signals_do_not_wait(tmp_path: Path) -> None:
    def listener(event: Event) -> None:
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(RenderCancelled):
        start(tmp_path / "a.zarr", listener)
    assert store.open(tmp_path / "a.zarr").head().state == "cancelled"


def test_renders_off_the_main_thread_leave_signals_alone(tmp_path: Path) -> None:
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(start(tmp_path / "a.zarr").head().state))
    thread.start()
    thread.join()
    assert ended == ["finished"]


def test_what_fails_while_loading_leaves_the_old_picture_alone(tmp_path: Path) -> None:
    canvas, summary = paint(toy_request(), tmp_path / "a.zarr")
    with pytest.raises(InvalidRequest, match="sees no CUDA device"):
        render(toy_request(seed=9), canvas.path, in_process=True, device="cuda", overwrite=True)
    assert store.open(canvas.path).digests() == digests(summary)


def test_a_worker_that_sees_another_directory_says_so_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "leave_proof", lambda *_: None)
    with pytest.raises(CanvasError, match="must lie in a directory that all of them share"):
        start(tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_a_picture_of_nothing_is_not_a_finished_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raytile.models.toy import Toy

    monkeypatch.setattr(Toy, "decode", lambda _self, z: torch.full((3, z.shape[1] * 8, z.shape[2] * 8), torch.nan))
    with pytest.raises(RenderFailed, match="NaN"):
        start(tmp_path / "a.zarr")
    head = store.open(tmp_path / "a.zarr").head()
    assert (head.state, head.done) == ("failed", 0)


def test_the_first_cause_is_told_even_where_the_head_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CanvasError("no space left on the disk")

    monkeypatch.setattr(Worker, "decode", full)
    monkeypatch.setattr(Canvas, "commit", full)
    with pytest.raises(RenderFailed, match=r"worker \d failed: no space left .* keeps 0 of 6 tiles"):
        start(tmp_path / "a.zarr")


def test_a_lost_device_is_a_lost_worker_and_the_render_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, calm = paint(toy_request(), tmp_path / "calm.zarr")
    step, broken = Worker.step, []

    def falls_off(self: Worker, *args: Any) -> list[Any]:
        if self.number == 1 and args[3] == 2 and not broken:
            broken.append(self.number)
            monkeypatch.setattr(self.group, "step", fails)
        return step(self, *args)

    def fails(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: device unavailable")

    monkeypatch.setattr(Worker, "step", falls_off)
    canvas = start(tmp_path / "a.zarr")
    summary = canvas.head().summary or {}
    assert digests(summary) == digests(calm)
    assert summary["rollbacks"] == 1


def test_a_cancel_from_outside_stops_the_render(tmp_path: Path) -> None:
    asked = threading.Event()

    def listener(event: Event) -> None:
        if isinstance(event, StepDone):
            if not asked.is_set():
                asked.set()
                threading.Thread(target=cancel, args=(tmp_path / "a.zarr",)).start()
            time.sleep(0.5)

    with pytest.raises(RenderCancelled):
        render(toy_request(steps=30), tmp_path / "a.zarr", workers=2, in_process=True, listeners=[listener], lease=1.0)
    assert store.open(tmp_path / "a.zarr").head().state == "cancelled"


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        start(tmp_path / "a.zarr")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_finished_stays_finished_whatever_a_listener_does(tmp_path: Path) -> None:
    def listener(event: Event) -> None:
        if isinstance(event, RenderFinished):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        start(tmp_path / "a.zarr", listener)
    assert store.open(tmp_path / "a.zarr").head().state == "finished"


def test_slowness_that_nobody_has_measured_yet_is_no_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step takes hours, as on a laptop with a large model: its worker is left alone."""
    moments, wait = [0.0], LocalPool.wait

    def slow(self: LocalPool, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        moments[0] += 100.0
        found = wait(self, refs, timeout)
        return found if moments[0] > 20_000 else [outcome for outcome in found if is_ready(outcome.value)]

    def is_ready(value: Any) -> bool:
        return isinstance(value, WorkerReady)

    monkeypatch.setattr(LocalPool, "wait", slow)
    monkeypatch.setattr(time, "monotonic", lambda: moments[0])
    heard: list[Event] = []
    assert start(tmp_path / "a.zarr", heard.append).head().state == "finished"
    assert not any(isinstance(event, WorkerLost) for event in heard)


def test_a_worker_that_hangs_is_given_up_and_the_render_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call never comes through; the clock says that this takes too long; its worker counts as lost."""
    moments, hung = [0.0], []
    wait = LocalPool.wait

    def stingy(self: LocalPool, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        found = wait(self, refs, timeout)
        for outcome in found:
            report = outcome.value[0] if isinstance(outcome.value, list) else outcome.value
            if isinstance(report, PhaseDone) and (report.worker, report.phase) == (1, 3):
                hung.append(outcome.ref)
        found = [outcome for outcome in found if outcome.ref not in hung]
        moments[0] += 0.01 if found else 100.0
        return found

    _, calm = paint(toy_request(), tmp_path / "calm.zarr")
    monkeypatch.setattr(LocalPool, "wait", stingy)
    monkeypatch.setattr(time, "monotonic", lambda: moments[0])
    heard: list[Event] = []
    summary = start(tmp_path / "a.zarr", heard.append).head().summary or {}
    (lost,) = [event for event in heard if isinstance(event, WorkerLost)]
    assert (lost.worker, lost.why) == (1, "has not finished anything for too long")
    assert digests(summary) == digests(calm)
