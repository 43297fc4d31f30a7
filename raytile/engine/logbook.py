"""What a render says on its canvas's head, and hears from there. No torch here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head
from raytile.canvas.keeper import CancelSeen, Committed, Keeper, Taken, Trouble
from raytile.canvas.patience import Patience
from raytile.errors import CanvasError
from raytile.events import CancelAsked, CanvasTaken, Event, SnapshotWhole, StoreTrouble

COMMIT_EVERY = 1.0
STOPPING = 1.5
"""Seconds that a render which ends early gives its canvas to note that: `ray job stop` gives three in all."""
LOOK = 0.5
"""Seconds for a last look at the head."""


class Logbook:
    """The head of `canvas`, through its `keeper`. Nothing here waits for a store, but the end of a render, a little.

    `clock` gives seconds that only go forward, `wall` seconds since 1970."""

    def __init__(self, canvas: Canvas, keeper: Keeper, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.canvas, self._keeper, self._clock, self._wall = canvas, keeper, clock, wall
        self._posted: dict[int, int] = {}  # snapshots on their way to the head, by the number of the change
        self._tiles: list[int] = []
        self._said: tuple[int, int] | None = None
        self._last = clock()

    def tile(self, tile: int) -> None:
        """This tile is on the canvas; the head hears of it with the next commit."""
        self._tiles.append(tile)

    def snapshot(self, phase: int, probe: str | None) -> None:
        """Every tile at the start of `phase` is stored, by devices that compute `probe`."""

        def change(head: Head) -> Head:
            # A later one may be on its way from before a roll-back: the head never goes back.
            return head.but(snapshot=max(phase, head.snapshot or 0), device_digest=probe)

        self._posted[self._keeper.post(change)] = phase

    def denoised(self, probe: str | None) -> None:
        """The final latents of every tile are on the canvas."""
        self._keeper.post(lambda head: head.but(denoised=True, snapshot=None, device_digest=probe))

    def progress(self, level: int, step: int, probe: str | None, workers: int) -> None:
        """So far denoising came; once a second at most, and if there is anything new, this is committed."""
        if self._clock() - self._last > COMMIT_EVERY and (self._tiles or self._said != (level, step)):
            self._said, self._last = (level, step), self._clock()
            self._commit(level=level, step=step, device_digest=probe, workers=workers)

    def news(self, restored: int) -> list[Event]:
        """What has happened to the head. Snapshots that are not gone back to any more are removed, but `restored`,
        which members may still be reading."""
        events: list[Event] = []
        for news in self._keeper.news():
            match news:
                case Committed(number):
                    for change in [change for change in self._posted if change <= number]:
                        phase = self._posted.pop(change)
                        events.append(SnapshotWhole(phase))
                        self._tidy(phase, restored)
                case CancelSeen():
                    events.append(CancelAsked())
                case Taken(why):
                    events.append(CanvasTaken(why))
                case Trouble(why):
                    events.append(StoreTrouble(why))
        return events

    def finish(self, level: int, step: int, summary: dict[str, object]) -> None:
        """Everything is done: post that; `told` says when it is on the head."""
        self._commit(state="finished", denoised=True, snapshot=None, summary=summary, level=level, step=step)

    def told(self, seconds: float) -> bool:
        """Whether all that was posted is on the head, after so many seconds at most."""
        return self._keeper.flush(seconds)

    def end(self, state: str, why: str, level: int, step: int) -> None:
        """The render ended early: say so, if the canvas answers soon; what is finished stays finished."""
        tiles = self._take_tiles()

        def change(head: Head) -> Head:
            if head.state != "running":
                return head
            return head.with_tiles(tiles, self._wall()).but(state=state, error=why, level=level, step=step)

        with suppress(CanvasError):
            self._keeper.post(change)
            self._keeper.flush(STOPPING)

    def how_far(self) -> str:
        """Where the canvas stands, for people."""
        try:
            head = self.canvas.with_patience(Patience(LOOK)).head()
        except CanvasError as error:
            return f"the canvas {self.canvas.path} cannot be read now ({error}): raytile resume goes on when it can"
        return (
            f"the canvas {self.canvas.path} is {head.state} and keeps {head.done} of {head.tiles_total} tiles "
            f"(level {head.level + 1} of {head.levels}, step {head.step} of {head.steps}): raytile resume goes on"
        )

    def tidy(self) -> None:
        """Remove all snapshots, since nobody goes back any more."""
        with suppress(CanvasError):
            self.canvas.drop_snapshots()

    def close(self) -> None:
        self._keeper.close()

    def _commit(self, **changes: object) -> None:
        tiles = self._take_tiles()
        self._keeper.post(lambda head: head.with_tiles(tiles, self._wall()).but(**changes))

    def _take_tiles(self) -> tuple[int, ...]:
        tiles, self._tiles = tuple(self._tiles), []
        return tiles

    def _tidy(self, *keep: int) -> None:
        """In a thread of its own, which the end of the process does not wait for."""

        def remove() -> None:
            with suppress(CanvasError):
                self.canvas.drop_snapshots(keep)

        threading.Thread(target=remove, daemon=True, name="snapshot-janitor").start()
