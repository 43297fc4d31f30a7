"""Progress: what it makes of events, on a terminal and elsewhere. Time is an argument."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from raytile.events import Counts, Event, RenderFinished, RenderStarted, StepDone, TileDone, WorkerReady
from raytile.progress import DECODE_SHARE, Gauge, Progress, spell

LEVELS, STEPS, LATER, TILES = 3, 8, 5, 16
TOTAL = STEPS + (LEVELS - 1) * LATER


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def course() -> Iterator[tuple[float, Event]]:
    """The events of a render, and how long each took; a step of a level works four times one of the level before."""
    work = (1,) * STEPS + (4,) * LATER + (16,) * LATER
    yield 0, RenderStarted("a.zarr", 512, 512, 2, LEVELS, 99, TILES, work)
    for worker in range(2):
        yield 7, WorkerReady(worker, "node", 1, "cpu", "", "", 0)
    done = 0
    for level in range(LEVELS):
        steps = LATER if level else STEPS
        for step in range(1, steps + 1):
            done += 1
            yield 4.0**level, StepDone(level, LEVELS, step, steps, done, TOTAL)
    for tile in range(TILES):
        yield 2, TileDone(0, tile, "", "", Counts())


def test_the_gauge_rises_evenly_and_foretells_the_time_to_go() -> None:
    clock = Clock()
    gauge = Gauge(clock)
    work = STEPS + LATER * 4 + LATER * 16
    seen, last = 0.0, 0.0
    for seconds, event in course():
        clock.now += seconds
        gauge.take(event)
        assert gauge.done >= last
        last = gauge.done
        if isinstance(event, StepDone):
            seen += seconds
            assert gauge.painted == pytest.approx(seen / work)
            left = gauge.seconds_to_go()
            assert left is not None
            assert left == pytest.approx(work * (1 + DECODE_SHARE) - seen)
        if isinstance(event, TileDone):
            assert gauge.seconds_to_go() == pytest.approx(2 * (TILES - len(gauge.tiles)))
    assert gauge.done == pytest.approx(1)


def test_elsewhere_lines_are_few_and_plain() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress(Console(file=out, width=80), clock, wall=lambda: 0.0) as progress:
        for seconds, event in course():
            clock.now += seconds / 4
            progress(event)
        progress(RenderFinished("a.zarr", 1.0))
    lines = [line.partition(" ")[2] for line in out.getvalue().splitlines()]  # without the time of day
    assert "\x1b" not in out.getvalue()
    assert lines[0] == "starting workers, 0 of 2 ready (0%)"
    levels = [f"level {level} of 3, step 1" for level in (1, 2, 3)]
    assert all(any(line.startswith(start) for line in lines) for start in levels)
    assert any(line.startswith("writing tile") for line in lines)
    assert len(lines) < 15
    assert all("to go" in line for line in lines if "step" in line)


def test_on_a_terminal_it_is_one_line() -> None:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, force_interactive=True)
    with Progress(console, clock) as progress:
        for seconds, event in course():
            clock.now += seconds
            progress(event)
        assert progress._bar is not None
        progress._bar.refresh()
        text = out.getvalue()
    assert "writing tile 16 of 16" in text
    assert "\n\n" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert spell(seconds) == text
