"""Progress of a render: one line on a terminal, plain lines elsewhere. A listener to events; imports nothing heavy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from raytile.events import (
    ClaimWaiting,
    Event,
    Regrouped,
    RenderFinished,
    RenderStarted,
    RenderStopped,
    RolledBack,
    StepDone,
    TileDone,
    WorkerReady,
)
from raytile.news import news

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 5.0
"""Seconds between plain lines."""
STEADY = 3
"""Steps that show a new pace."""
AT_ONCE = 8
"""Pieces of news that are told one by one within that time."""
DECODE_SHARE = 0.08
"""What decoding is taken to cost beside all the steps until the first tile tells."""


@dataclass
class Gauge:
    """How far a render is and how long it still takes, from its events. `clock` gives seconds that only go forward.

    The pace is that of the present stretch: since the workers were ready, were grouped anew, or went back; for its
    first few steps, that of the stretch before."""

    clock: Callable[[], float]
    started: RenderStarted | None = None
    ready: int = 0
    step: StepDone | None = None
    tiles: set[int] = field(default_factory=set)
    _since: float = 0.0
    _base: float | None = None
    """What was painted when the stretch began; None until its first step tells."""
    _steps: int = 0
    """Of this stretch."""
    _pace: float | None = None
    """Seconds that all the work would take at the pace of the stretch before."""
    _decoding_since: float | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, RenderStarted):
            self.started = event
        elif isinstance(event, WorkerReady):
            self.ready += 1
            if self.step is None:
                self._since = self.clock()
        elif isinstance(event, StepDone):
            if self._base is None:
                self._base = self._share(event.done - 1)
            self.step, self._steps = event, self._steps + 1
            if event.done == event.total:
                self._decoding_since = self.clock()
        elif isinstance(event, RolledBack | Regrouped):
            self._pace = self._seconds() if self._steps >= STEADY or self._pace is None else self._pace
            self._since, self._base, self._steps = self.clock(), None, 0
            if isinstance(event, RolledBack):
                self._decoding_since = None
        elif isinstance(event, TileDone):
            if self._decoding_since is None:
                self._decoding_since = self.clock()
            self.tiles.add(event.tile)

    def _share(self, steps: int) -> float:
        work = self.started.work if self.started else ()
        return sum(work[:steps]) / sum(work) if work else 0.0

    @property
    def painted(self) -> float:
        """The share of all network work that is done."""
        return self._share(self.step.done) if self.step else 0.0

    @property
    def done(self) -> float:
        """The share of the whole render that is done, decoding included."""
        total = self.started.tiles if self.started else 0
        painted = 1.0 if self._decoding_since is not None else self.painted
        return painted * (1 - DECODE_SHARE) + (len(self.tiles) / total if total else 0.0) * DECODE_SHARE

    def seconds_to_go(self) -> float | None:
        """What the pace so far promises; None before anything shows it."""
        if self._decoding_since is not None and self.tiles:
            total = self.started.tiles if self.started else 0
            return (self.clock() - self._decoding_since) * (total - len(self.tiles)) / len(self.tiles)
        seconds = self._pace if self._pace is not None and self._steps < STEADY else self._seconds()
        return None if seconds is None else seconds * (1 + DECODE_SHARE - self.painted)

    def _seconds(self) -> float | None:
        """What all the work would take at the pace of this stretch."""
        if self._base is None or self.painted <= self._base:
            return None
        return ((self._decoding_since or self.clock()) - self._since) / (self.painted - self._base)

    def __str__(self) -> str:
        """Where the render is, in words."""
        if self.started is None:
            return "starting"
        if self._decoding_since is not None:
            return f"writing tile {len(self.tiles)} of {self.started.tiles}"
        if self.step is None:
            if self.ready < self.started.workers:
                return f"starting workers, {self.ready} of {self.started.workers} ready"
            return "painting"
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
    """The listener: shows a `Gauge` on `console`, as a live line if it is a terminal, and what happens beside.

    Use it as a context, so that the line goes when the render ends, however it does. `wall` gives seconds since 1970,
    for lines in a log."""

    console: Console
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _gauge: Gauge = field(init=False)
    _nodes: dict[int, str] = field(default_factory=dict)
    _bar: Any = None
    _said: tuple[float, object] = (float("-inf"), None)
    _news: list[float] = field(default_factory=list)
    """When the last pieces of news were told."""
    _untold: int = 0
    _held_by: str = ""

    def __post_init__(self) -> None:
        self._gauge = Gauge(self.clock)

    @property
    def started(self) -> bool:
        """Whether any work began."""
        return self._gauge.started is not None

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
        if isinstance(event, WorkerReady):
            self._nodes[event.worker] = event.node
        line = news(event, self._nodes)
        if isinstance(event, ClaimWaiting):
            line, self._held_by = line if self._held_by != event.owner else None, event.owner
        if line is not None:
            self._tell(line)
        left = gauge.seconds_to_go()
        to_go = "" if left is None else f"{spell(left)} to go"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=str(gauge), completed=gauge.done, left=to_go)
        elif gauge.started and not isinstance(event, RenderFinished | RenderStopped):
            self._plain(f"{gauge} ({gauge.done:.0%})" + (f", {to_go}" if to_go else ""))

    def _tell(self, line: str) -> None:
        """A piece of news; when many come at once, only how many more there were."""
        now = self.clock()
        self._news = [at for at in self._news if now - at < EVERY]
        if len(self._news) >= AT_ONCE:
            self._untold += 1
            return
        self._news.append(now)
        self._print(line)

    def _plain(self, line: str) -> None:
        """A line now and then: every few seconds, and where a level begins."""
        level = self._gauge.step and self._gauge.step.level
        now, before = self.clock(), self._said
        if now - before[0] >= EVERY or level != before[1]:
            self._said = now, level
            self._print(line)

    def _print(self, line: str) -> None:
        if self._untold:
            line, self._untold = f"(and {self._untold} more such lines) {line}", 0
        if self._bar is None:
            line = f"{time.strftime('%H:%M:%S', time.localtime(self.wall()))} {line}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
