"""A render's events, kept beside its canvas: written in bursts, read by any number of watchers, each id once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from raytile.canvas.bytes import Bytes
from raytile.errors import CanvasError
from raytile.events import (
    Event,
    PreviewStored,
    RenderStarted,
    RolledBack,
    StepDone,
    TileDone,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerReady,
)
from raytile.serve.names import check_id

ENDING = ("finished", "failed", "cancelled")
EAGER, PACE, SLOW = 0.04, 0.25, 2.0
"""Seconds between two objects of a feed, at its beginning, later, and when it is long: what happens meanwhile goes into
one."""
LONG = 400
"""Events of a feed from which its pace slows down."""
FIRST = 12
"""Events that are a feed's beginning."""
TROUBLED = 1.0
"""Seconds after which a store that refused is asked again."""
CLOSING = 10.0


class FeedWriter:
    """Adds events to the feed of render `id`; a thread of its own does the writing, and no trouble reaches the caller.

    An event is {"id": 1, 2, ..., "event": its name, "at": seconds since 1970 (`clock`), "data": {...}}. An object is
    named by its first event's id and made only where there is none, so that two writers share one row of ids."""

    def __init__(self, objects: Bytes, id: str, clock: Callable[[], float]) -> None:
        self._objects, self._below, self._clock = objects, _below(id), clock
        self._next: int | None = None
        self._waiting: list[dict[str, Any]] = []
        self._closed = self._over = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def post(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Queue an event; returns at once."""
        with self._changed:
            news = {"event": event, "at": round(self._clock(), 3), "data": dict(data or {})}
            self._waiting[-1:] = merged([*self._waiting[-1:], news])
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is waiting, for so long as is sensible, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSING)
        self._over = True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                burst, self._waiting = self._waiting, []
                closed = self._closed
            try:
                self.write(burst)
                pause = _pause(self._next or 0)
            except CanvasError:
                if closed:
                    return
                pause = TROUBLED
                with self._changed:
                    self._waiting = merged([*burst, *self._waiting])
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause)

    def write(self, burst: list[dict[str, Any]]) -> None:
        """Write events here and now. Not for one that has posted."""
        while True:
            if self._next is None:
                self._next = _last(self._objects, self._below) + 1
            if self._over:
                return
            numbered = [{"id": self._next + n, **event} for n, event in enumerate(burst)]
            if self._objects.create(f"{self._below}{self._next:012d}.json", json.dumps(numbered).encode()) is not None:
                self._next += len(burst)
                return
            self._next = None  # another writer was here first


def post_now(
    objects: Bytes,
    id: str,
    clock: Callable[[], float],
    event: str,
    data: Mapping[str, Any] | None = None,
    first: bool = False,
) -> None:
    """Add one event to a feed, here and now; `first`: as the first, if there is none yet. Trouble is not told: the
    record is the truth, and what ended is seen there."""
    news = {"event": event, "at": round(clock(), 3), "data": dict(data or {})}
    with suppress(CanvasError):
        if first:
            objects.create(f"{_below(id)}{1:012d}.json", json.dumps([{"id": 1, **news}]).encode())
        else:
            FeedWriter(objects, id, clock).write([news])


class FeedReader:
    """Reads a feed from after event `after`; asks for the next object by name, and lists only once, to find its place
    amid one."""

    def __init__(self, objects: Bytes, id: str, after: int = 0) -> None:
        self._objects, self._below = objects, _below(id)
        self.after = after
        self._aligned = after == 0

    def read(self) -> list[dict[str, Any]]:
        """The events that came since the last call."""
        found: list[dict[str, Any]] = []
        start = self.after + 1
        if not self._aligned:
            firsts = [first for first in _firsts(self._objects, self._below) if first <= start]
            if not firsts:
                return []
            start = firsts[-1]
        while (held := self._objects.read(f"{self._below}{start:012d}.json")) is not None:
            events = json.loads(held[0])
            found += [event for event in events if event["id"] > self.after]
            start = events[-1]["id"] + 1
            self._aligned = True
            self.after = max(self.after, start - 1)
        return found


def read_feed(objects: Bytes, id: str, after: int = 0) -> list[dict[str, Any]]:
    """All events of render `id` after event `after`."""
    return FeedReader(objects, id, after).read()


class FeedListener:
    """Tells a feed what happens in a render (see `raytile.events`). `clock` gives seconds that only go forward."""

    def __init__(self, feed: FeedWriter, clock: Callable[[], float]) -> None:
        self._feed, self._clock = feed, clock
        self._begun = clock()
        self._total = 0
        self._workers: set[int] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case RenderStarted():
                self._total = event.tiles
                self._feed.post(
                    "started",
                    {"width": event.width, "height": event.height, "tiles": event.tiles, "levels": event.levels},
                )
            case StepDone():
                self._feed.post(
                    "step",
                    {
                        "level": event.level,
                        "levels": event.levels,
                        "step": event.step,
                        "steps": event.steps,
                        "done": event.done,
                        "total": event.total,
                        "seconds": round(self._clock() - self._begun, 3),
                    },
                )
            case PreviewStored(level, step):
                self._feed.post("preview", {"level": level, "step": step})
            case TileDone():
                self._feed.post("tile", {"tiles": [event.tile]})
            case WorkerReady(worker) | WorkerJoined(worker):
                self._who(worker, "joined")
            case WorkerLeft(worker):
                self._who(worker, "left")
            case WorkerLost(worker):
                self._who(worker, "lost")
            case RolledBack():
                self._feed.post("rolled_back", {"steps_redone": event.steps_redone, "workers": len(event.members)})

    def _who(self, worker: int, what: str) -> None:
        if (what == "joined") == (worker in self._workers):
            return  # told before
        self._workers.symmetric_difference_update({worker})
        self._feed.post("worker", {"what": what, "worker": worker, "workers": len(self._workers)})


def merged(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same news in fewer events: of steps and of previews in a row the last, tiles in a row in one list."""
    found: list[dict[str, Any]] = []
    for event in events:
        before = found[-1] if found else None
        if before is None or before["event"] != event["event"] or event["event"] not in ("step", "preview", "tile"):
            found.append(event)
        elif event["event"] == "tile":
            both = [*before["data"]["tiles"], *event["data"]["tiles"]]
            found[-1] = {**event, "data": {**event["data"], "tiles": both}}
        else:
            found[-1] = event
    return found


def _pause(events: int) -> float:
    """Seconds to wait after so many events."""
    return EAGER if events < FIRST else min(SLOW, PACE * max(1.0, events / LONG))


def _below(id: str) -> str:
    return f"renders/{check_id(id)}/events/"


def _firsts(objects: Bytes, below: str) -> list[int]:
    names = (key.removeprefix(below).removesuffix(".json") for key in objects.sizes(below) if key.endswith(".json"))
    return sorted(int(name) for name in names if name.isdecimal())


def _last(objects: Bytes, below: str) -> int:
    """The id of the last event there is; 0 if there is none."""
    firsts = _firsts(objects, below)
    if not firsts:
        return 0
    held = objects.read(f"{below}{firsts[-1]:012d}.json")
    return 0 if held is None else int(json.loads(held[0])[-1]["id"])
