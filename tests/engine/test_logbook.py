"""What a render says on the head: never back, never of what is gone, and nothing after the end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.claims import claim
from raytile.canvas.keeper import Keeper
from raytile.engine.logbook import Logbook
from raytile.events import CancelAsked, CanvasTaken, Event, SnapshotWhole
from tests.canvas.canvas_parts import SMALL, head, owner


def book(out: Path, **changes: object) -> Logbook:
    canvas = store.create(out, SMALL, head(**changes))
    return Logbook(canvas, Keeper(canvas, period=0.05, clock=time.time), time.monotonic, time.time)


def hear(log: Logbook, count: int, restored: int = 0) -> list[Event]:
    """The next so many events."""
    events: list[Event] = []
    end = time.monotonic() + 10
    while len(events) < count and time.monotonic() < end:
        events += log.news(restored)
        time.sleep(0.01)
    return events


def save(canvas: Canvas, *phases: int) -> None:
    for phase in phases:
        for tile in range(SMALL.tiles):
            box = SMALL.cells(tile)
            canvas.write_snapshot(phase, tile, np.zeros((1, 4, box.height, box.width), np.float32))


def kept(out: Path) -> set[int]:
    return {int(each.name) for each in (out / "snapshots").iterdir() if any(each.iterdir())}


def test_the_head_never_goes_back_to_an_older_snapshot(tmp_path: Path) -> None:
    """A later one may be on its way from before a roll-back; what the head names must not be what is removed."""
    log = book(tmp_path / "a.zarr")
    save(log.canvas, 3, 5, 16)
    log.snapshot(16, "probe")
    log.snapshot(5, "probe")
    assert hear(log, 2) == [SnapshotWhole(16), SnapshotWhole(5)]
    found = log.canvas.head()
    assert (found.snapshot, found.device_digest) == (16, "probe")
    time.sleep(0.3)  # the removing is done by a thread that nobody waits for
    assert found.snapshot in kept(tmp_path / "a.zarr")
    log.close()


def test_a_snapshot_that_members_may_still_be_reading_stays(tmp_path: Path) -> None:
    log = book(tmp_path / "a.zarr")
    save(log.canvas, 3, 5, 8)
    log.snapshot(8, "probe")
    hear(log, 1, restored=3)
    end = time.monotonic() + 10
    while kept(tmp_path / "a.zarr") != {3, 8} and time.monotonic() < end:
        time.sleep(0.02)
    assert kept(tmp_path / "a.zarr") == {3, 8}
    log.close()


def test_what_is_finished_is_not_ended(tmp_path: Path) -> None:
    log = book(tmp_path / "a.zarr")
    log.finish(0, 4, {"figures": 1})
    assert log.told(10)
    log.end("failed", "a listener failed", 0, 0)
    assert log.canvas.head().state == "finished"
    log.close()


@pytest.mark.parametrize("again", [False, True])
def test_an_owner_that_lost_its_canvas_hears_of_it_and_says_no_more(tmp_path: Path, again: bool) -> None:
    log = book(tmp_path / "a.zarr", state="cancelled")  # of a run that was thought dead
    taken = claim(tmp_path / "a.zarr", owner("t1"), clock=time.monotonic, sleep=time.sleep)
    log.snapshot(3, "probe")
    (event,) = hear(log, 1)
    assert isinstance(event, CanvasTaken)
    if again:
        log.end("failed", "lost", 0, 0)
    found = taken.head()
    assert (found.owner.token, found.state, found.snapshot) == ("t1", "running", None)
    log.close()


def test_a_wish_to_cancel_is_heard(tmp_path: Path) -> None:
    log = book(tmp_path / "a.zarr")
    store.open(tmp_path / "a.zarr").commit(lambda now: now.but(cancel_asked=True))
    assert hear(log, 1) == [CancelAsked()]
    log.close()
