"""The one thread that commits the head of a claimed canvas, and keeps its lease alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.patience import Patience
from raytile.errors import CanvasError, first_line

Change = Callable[[Head], Head]
BEATS = 5  # heartbeats in a lease
ANSWER = 5.0  # seconds


@dataclass(frozen=True)
class Committed:
    """Every change up to this number is on the head, safely."""

    number: int


@dataclass(frozen=True)
class CancelSeen:
    """Someone asks this run to stop."""


@dataclass(frozen=True)
class Taken:
    """Another run has the canvas; nothing is committed any more."""

    why: str


@dataclass(frozen=True)
class Trouble:
    """The store does not do its part; it is asked again and again. Told once until it does."""

    why: str


News = Committed | CancelSeen | Taken | Trouble


class Keeper:
    """Commits what is posted, in order, several changes in one swap; with nothing to commit, a heartbeat.

    `canvas` is one that `create` or `claim` returned; nobody else commits it from here on. `period` is
    seconds between heartbeats, a fifth of the lease if None; `clock` says the seconds since 1970. A head that is no
    longer running gets no heartbeats. A change may be applied again, to a newer head of the same owner: see
    `Canvas.commit`. Thread-safe. One that raises ends the keeper: every method raises that error from then on."""

    def __init__(self, canvas: Canvas, *, period: float | None = None, clock: Callable[[], float]) -> None:
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self.canvas = canvas
        # A request that hangs is given up in time for another, within the lease.
        self._patient = canvas.with_patience(Patience(float("inf"), ANSWER, self._stop, self._trouble))
        self._period, self._clock = period, clock
        self._posted: list[Change] = []
        self._number = self._done = 0
        self._news: list[News] = []
        self._troubled = self._cancel_seen = False
        self._over: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="head-keeper", daemon=True)
        self._thread.start()

    def post(self, change: Change) -> int:
        """Queue a change of the head; returns its number, the first being 1."""
        with self._changed:
            self._raise_bug()
            self._posted.append(change)
            self._number += 1
            self._changed.notify_all()
            return self._number

    def news(self) -> list[News]:
        """What has happened since the last call; does not wait."""
        with self._changed:
            self._raise_bug()
            news, self._news = self._news, []
            return news

    def flush(self, timeout: float) -> bool:
        """Wait until all that was posted is committed; False if it is not after `timeout` seconds, or never will be."""
        with self._changed:
            target = self._number
            self._changed.wait_for(lambda: self._done >= target or self._over is not None, timeout)
            self._raise_bug()
            return self._done >= target

    def close(self) -> None:
        """Stop at once; what is not committed yet is not. Waits for a swap under way, not for a store that is away."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(1.0)

    def _raise_bug(self) -> None:
        if self._over is not None and not isinstance(self._over, HeadConflict):
            raise self._over

    def _run(self) -> None:
        head: Head | None = None
        wait = 0.0  # the first heartbeat at once: the head of a claimed canvas is as old as the claim
        batch: list[Change] = []
        try:
            while True:
                with self._changed:
                    if not batch:
                        self._changed.wait_for(lambda: self._posted or self._stop.is_set(), wait)
                        batch, self._posted = self._posted, []
                    target = self._done + len(batch)
                if self._stop.is_set():
                    return
                if batch or head is None or head.state == "running":
                    head = self._commit(batch, target)
                    if head is None:  # the disk refused: try the same again
                        self._stop.wait(0.5)
                        continue
                    batch = []
                    wait = self._period if self._period is not None else head.lease / BEATS
        except BaseException as error:
            with self._changed:
                self._over = error
                if isinstance(error, HeadConflict):
                    self._news.append(Taken(first_line(error)))
        finally:
            with self._changed:
                if self._over is None:
                    self._over = HeadConflict("closed")
                self._changed.notify_all()

    def _commit(self, batch: list[Change], target: int) -> Head | None:
        """One swap; the head as it is then, or None when the store refused."""

        def change(head: Head) -> Head:
            for each in batch:
                head = each(head)
            return head.but(beat=head.beat + 1, updated=self._clock())

        try:
            head = self._patient.commit(change)
        except HeadConflict:
            raise
        except CanvasError as error:
            self._trouble(first_line(error))
            return None
        with self._changed:
            self._troubled = False
            if target > self._done:
                self._done = target
                self._news.append(Committed(target))
            if head.cancel_asked and not self._cancel_seen:
                self._cancel_seen = True
                self._news.append(CancelSeen())
            self._changed.notify_all()
        return head

    def _trouble(self, why: str) -> None:
        with self._changed:
            if not self._troubled and not self._stop.is_set():
                self._troubled = True
                self._news.append(Trouble(why))
                self._changed.notify_all()
