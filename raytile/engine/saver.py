"""Snapshots of one worker: its tiles as they were at the start of a phase, in memory and, soon after, in the store.

Storing happens in a thread of its own, so that no step waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytile.canvas.canvas import Canvas
from raytile.errors import first_line
from raytile.events import SnapshotStored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.float32]


class Saver:
    """Saves what worker `worker` owns to `canvas`. `SnapshotStored` says how each snapshot went."""

    def __init__(self, worker: int, canvas: Canvas) -> None:
        self._worker, self._canvas = worker, canvas
        self._memory: dict[int, Mapping[int, Cells]] = {}
        self._stored: list[SnapshotStored] = []
        self._threads: list[threading.Thread] = []

    def save(self, epoch: int, phase: int, tiles: Mapping[int, Cells]) -> None:
        """Keep `tiles` in memory, and begin to store them. They are not to be written to any more."""
        self._memory[phase] = {**self._memory.get(phase, {}), **tiles}
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._store, args=(epoch, phase, tiles), daemon=True, name=f"snapshot-{phase}")
        self._threads.append(thread)
        thread.start()

    def read(self, phase: int, tile: int) -> Cells:
        """A tile at the start of a phase: from memory, else from the store (`CanvasError` if it is not there)."""
        mine = self._memory.get(phase, {})
        return mine[tile] if tile in mine else self._canvas.read_snapshot(phase, tile)

    def forget(self, before: int) -> None:
        """Nobody will go back to a phase before `before`."""
        for phase in [phase for phase in self._memory if phase < before]:
            del self._memory[phase]

    def news(self) -> tuple[SnapshotStored, ...]:
        """What was stored, or failed to be, since the last time."""
        stored = tuple(self._stored)
        del self._stored[: len(stored)]  # more may have come meanwhile, from a thread
        return stored

    def settle(self, seconds: float | None = None) -> None:
        """Wait until nothing is being stored any more, for so many seconds at most."""
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _store(self, epoch: int, phase: int, tiles: Mapping[int, Any]) -> None:
        start, size, trouble = time.perf_counter(), 0, None
        try:
            for tile, cells in tiles.items():
                size += self._canvas.write_snapshot(phase, tile, cells)
        except Exception as error:
            trouble = first_line(error)
            self._memory.pop(phase, None)  # nobody will go back to it
        seconds = time.perf_counter() - start
        self._stored.append(SnapshotStored(self._worker, epoch, phase, seconds, size, trouble))
