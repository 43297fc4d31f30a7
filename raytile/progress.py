"""Progress of a render: one line on a terminal, plain lines elsewhere. A listener to events; imports nothing heavy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from raytile.events import Event, RenderFinished, RenderStarted, RenderStopped, StepDone, TileDone, WorkerReady

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 5.0
"""Seconds between plain lines."""
DECODE_SHARE = 0.08
"""What decoding is taken to cost beside all the steps until the first tile tells."""


@dataclass
class Gauge:
    """How far a render is and how long it still takes, from its events. `clock` gives seconds that only go forward."""

    clock: Callable[[], float]
    started: RenderStarted | None = None
    ready: int = 0
    step: StepDone | None = None
    tiles: int = 0
    _painting_since: float = 0.0
    _decoding_since: float | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, RenderStarted):
            self.started = event
        elif isinstance(event, WorkerReady):
            self.ready += 1
            self._painting_since = self.clock()
        elif isinstance(event, StepDone):
            self.step = event
            if event.done == event.total:
                self._decoding_since = self.clock()
        elif isinstance(event, TileDone):
            self.tiles += 1

    @property
    def painted(self) -> float:
        """The share of all network work that is done."""
        if self.started is None or self.step is None:
            return 0.0
        work = self.started.work
        return sum(work[: self.step.done]) / sum(work)

    @property
    def done(self) -> float:
        """The share of the whole render that is done, decoding included."""
        total = self.started.tiles if self.started else 0
        decoded = self.tiles / total if total else 0.0
        return self.painted * (1 - DECODE_SHARE) + decoded * DECODE_SHARE

    def seconds_to_go(self) -> float | None:
        """What the pace so far promises; None before anything shows it."""
        if self._decoding_since is not None:
            total = self.started.tiles if self.started else 0
            if not self.tiles:
                return (self._decoding_since - self._painting_since) * DECODE_SHARE
            return (self.clock() - self._decoding_since) * (total - self.tiles) / self.tiles
        if not self.painted:
            return None
        return (self.clock() - self._painting_since) * (1 / self.painted * (1 + DECODE_SHARE) - 1)

    def __str__(self) -> str:
        """Where the render is, in words."""
        if self.started is None:
            return "starting"
        if self.step is None:
            if self.ready < self.started.workers:
                return f"starting workers, {self.ready} of {self.started.workers} ready"
            return "painting"
        if self._decoding_since is not None:
            return f"writing tile {self.tiles} of {self.started.tiles}"
        level = f"level {self.step.level + 1} of {self.step.levels}, " if self.step.levels > 1 else ""
        return f"{level}step {self.step.step} of {self.step.steps}"


def spell(seconds: float) -> str:
    """A stretch of time for people: `2.5 s`, `42 s`, `2:05`, `1:02:05`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@dataclass
class Progress:
    """The listener: shows a `Gauge` on `console`, as a live line if it is a terminal.

    Use it as a context, so that the line goes when the render ends, however it does."""

    console: Console
    clock: Callable[[], float] = time.monotonic
    _gauge: Gauge = field(init=False)
    _bar: Any = None
    _said: tuple[float, object] = (float("-inf"), None)

    def __post_init__(self) -> None:
        self._gauge = Gauge(self.clock)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:>3.0f} %"))
            self._bar = Bar(*columns, TextColumn("{task.fields[left]}"), console=self.console, transient=True)
            self._bar.add_task("starting", total=1.0, left="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        gauge = self._gauge
        gauge.take(event)
        left = gauge.seconds_to_go()
        to_go = "" if left is None else f"{spell(left)} to go"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=str(gauge), completed=gauge.done, left=to_go)
        elif not isinstance(event, RenderFinished | RenderStopped):
            self._plain(f"{gauge} ({gauge.done:.0%})" + (f", {to_go}" if to_go else ""))

    def _plain(self, line: str) -> None:
        """A line now and then: every few seconds, and where a level begins."""
        level = self._gauge.step and self._gauge.step.level
        now, before = self.clock(), self._said
        if now - before[0] >= EVERY or level != before[1]:
            self._said = now, level
            self.console.print(line, markup=False, highlight=False)
