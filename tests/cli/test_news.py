"""What progress tells of workers that come and go, and of time when they do."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from raytile.engine.state import IDLE
from raytile.events import (
    CancelAsked,
    ClaimWaiting,
    Counts,
    Event,
    Regrouped,
    RenderStarted,
    RolledBack,
    SnapshotWhole,
    StepDone,
    StoreTrouble,
    TileDone,
    WorkerJoined,
    WorkerLeaving,
    WorkerLeft,
    WorkerLost,
    WorkerReady,
)
from raytile.news import news
from raytile.progress import AT_ONCE, DECODE_SHARE, EVERY, Gauge, Progress
from tests.cli.test_progress import Clock

STEPS = 20
START = RenderStarted("a.zarr", 512, 512, 2, 1, 99, 16, (3,) * STEPS)


def ready(worker: int, node: str = "node-a") -> WorkerReady:
    return WorkerReady(worker, node, 1, "cpu", "", "", 0)


def step(number: int) -> StepDone:
    return StepDone(0, 1, number, STEPS, number, STEPS)


def back(members: tuple[int, ...] = (0, 1), redone: int = 3) -> RolledBack:
    return RolledBack(epoch=1, phase=12, members=members, steps_redone=redone, lag=0, why="worker 3 was lost")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (WorkerLost(3, "it was killed"), "worker 3 was lost on node-a: it was killed"),
        (WorkerLost(4, "it was killed"), "worker 4 was lost: it was killed"),
        (back(), "going on with 2 workers, 3 steps again"),
        (back((1,), 1), "going on with 1 worker, 1 step again"),
        (back((1,), 0), "going on with 1 worker, nothing to do again"),
        (WorkerLost(4, "worker 4 is lost: out of memory"), "worker 4 was lost: out of memory"),
        (WorkerLost(4, "worker 4 is lost"), "worker 4 was lost"),
        (Regrouped(2, 9, (0, 1), 1, "speeds differ"), "1 tile moved (speeds differ)"),
        (Regrouped(2, 9, (0, 1), 0, "speeds differ"), None),
        (WorkerJoined(3, (0, 3)), "worker 3 joined on node-a: 2 workers"),
        (WorkerLeaving(3, 29.6), "worker 3 loses its place in 30 s: its tiles move to the others"),
        (WorkerLeft(3, (0,), "its node is drained"), "worker 3 left (its node is drained): 1 worker"),
        (WorkerLeft(3, (0,), IDLE), None),
        (StoreTrouble("timed out"), "the canvas cannot be reached (timed out): going on while that is possible"),
        (CancelAsked(), "asked to stop: the canvas is kept"),
        (SnapshotWhole(3), None),
        (step(1), None),
        (ready(1), None),
    ],
)
def test_what_happens_is_told_in_a_line(event: Event, line: str | None) -> None:
    assert news(event, {3: "node-a"}) == line


def told(console: dict[str, Any], *events: tuple[float, Event]) -> str:
    """What progress says of events, each some seconds after the one before."""
    clock, out = Clock(), io.StringIO()
    with Progress(Console(file=out, width=60, **console), clock, wall=lambda: 0.0) as progress:
        for seconds, event in events:
            clock.now += seconds
            progress(event)
    return out.getvalue()


def test_in_a_log_each_is_a_line_with_its_time_however_long() -> None:
    lines = told({}, (0, START), (1, ready(3)), (1, WorkerLost(3, "word " * 30 + "end")), (0, back())).splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d [a-z]", line) for line in lines)
    (lost,) = (line for line in lines if "was lost" in line)
    assert lost.endswith("end")
    assert lines[-1].endswith("going on with 2 workers, 3 steps again")


def test_on_a_terminal_they_stand_above_the_bar() -> None:
    text = told({"force_terminal": True, "force_interactive": True}, (0, START), (1, WorkerLost(3, "killed")))
    assert "worker 3 was lost: killed\n" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_many_at_once_are_counted() -> None:
    joins = [(0.0, WorkerJoined(number, tuple(range(number + 1)))) for number in range(100)]
    lines = told({}, (0, START), *joins, (EVERY + 1, step(1))).splitlines()
    assert sum("joined" in line for line in lines) == AT_ONCE
    assert f"(and {100 - AT_ONCE} more such lines)" in lines[-1]


def test_waiting_for_a_canvas_is_told_once_for_each_that_holds_it() -> None:
    waits = [
        (1.0, ClaimWaiting(owner, 15.0 - left)) for owner in ("process 7 on a", "process 8 on b") for left in (0, 1)
    ]
    lines = told({}, *waits).splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        f"the canvas is held by process {who}: taken over in 15 s, unless that shows it lives"
        for who in ("7 on a", "8 on b")
    ]


def gauge_after(*events: tuple[float, Event]) -> Gauge:
    clock = Clock()
    gauge = Gauge(clock)
    for seconds, event in events:
        clock.now += seconds
        gauge.take(event)
    return gauge


def test_after_a_loss_the_gauge_goes_back_and_foretells_from_the_new_pace() -> None:
    alone = [(4.0, step(number)) for number in range(4, 8)]
    gauge = gauge_after((0, START), (9, ready(0)), *((2.0, step(n)) for n in range(1, 7)), (5, back()), *alone)
    assert gauge.painted == pytest.approx(7 / STEPS)
    assert gauge.seconds_to_go() == pytest.approx(4 * (STEPS * (1 + DECODE_SHARE) - 7))


def test_a_worker_that_comes_later_changes_the_pace_and_no_more() -> None:
    before = [(4.0, step(number)) for number in range(1, 5)]
    came = (3.0, ready(1)), (0.0, Regrouped(1, 9, (0, 1), 8, "worker 1 joined"))
    gauge = gauge_after((0, START), (9, ready(0)), *before, *came)
    assert gauge.painted == pytest.approx(4 / STEPS)
    assert gauge.seconds_to_go() == pytest.approx((4 + 3 / 4) * (STEPS * (1 + DECODE_SHARE) - 4))
    after = [(2.0, step(number)) for number in range(5, 8)]
    gauge = gauge_after((0, START), (9, ready(0)), *before, *came, *after)
    assert gauge.seconds_to_go() == pytest.approx(2 * (STEPS * (1 + DECODE_SHARE) - 7))


def test_its_first_step_after_a_change_tells_nothing_yet() -> None:
    before = [(4.0, step(number)) for number in range(1, 7)]
    gauge = gauge_after((0, START), (9, ready(0)), *before, (0, back()), (60, step(4)))
    assert gauge.seconds_to_go() == pytest.approx(4 * (STEPS * (1 + DECODE_SHARE) - 4))


def test_a_render_that_goes_on_in_the_middle_is_not_taken_for_a_fast_one() -> None:
    gauge = gauge_after((0, START), (9, ready(0)), (4, step(15)), (4, step(16)))
    assert gauge.seconds_to_go() == pytest.approx(4 * (STEPS * (1 + DECODE_SHARE) - 16))


def test_one_that_goes_on_with_its_tiles_counts_them_once() -> None:
    tile = TileDone(0, 5, "", "", Counts())
    gauge = gauge_after((0, START), (9, ready(0)), (4, tile), (4, tile))
    assert str(gauge) == "writing tile 1 of 16"
    assert gauge.done > 1 - DECODE_SHARE
