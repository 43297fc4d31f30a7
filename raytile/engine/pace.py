"""How fast each worker is, as far as their reports tell. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from raytile.engine.policy import MEASURED
from raytile.events import Counts


class Pace:
    """Takes in the counts of finished steps and tiles; forgets nobody, since worker numbers are never used twice."""

    def __init__(self) -> None:
        self.tile_seconds: float | None = None
        """The most that a worker took over decoding a tile; None before the first."""
        self._last: dict[int, Counts] = {}
        self._samples: dict[int, deque[float]] = {}
        self._in_epoch: dict[int, int] = {}
        self._saved_at: dict[int, float] = {}

    def take(self, worker: int, counts: Counts) -> None:
        """A step of `worker` is done; `counts` are its totals since it was loaded."""
        before = self._last.get(worker, Counts())
        self._last[worker] = counts
        rows, seconds = counts.rows - before.rows, counts.busy_seconds - before.busy_seconds
        if rows > 0 and seconds > 0:
            self._samples.setdefault(worker, deque(maxlen=MEASURED)).append(seconds / rows)
            self._in_epoch[worker] = self._in_epoch.get(worker, 0) + 1

    def take_tile(self, worker: int, counts: Counts) -> None:
        """A tile is decoded; what `worker` did since its last report counts as that, at most too much."""
        seconds = counts.busy_seconds - self._last.get(worker, Counts()).busy_seconds
        self._last[worker] = counts
        self.tile_seconds = max(self.tile_seconds or 0.0, seconds)

    def known(self) -> dict[int, float]:
        """Seconds per network row of each worker that was measured: of its last steps the fastest."""
        return {worker: min(samples) for worker, samples in self._samples.items()}

    def settled(self, members: Collection[int]) -> bool:
        """Whether each of them has been measured often enough since the epoch began."""
        return all(self._in_epoch.get(worker, 0) >= MEASURED for worker in members)

    def epoch_begins(self) -> None:
        self._in_epoch.clear()

    def snapshot_begins(self) -> None:
        self._saved_at = {worker: counts.busy_seconds for worker, counts in self._last.items()}

    def busy_since_snapshot(self) -> float:
        """Seconds that the busiest worker has computed since the last snapshot was taken."""
        return max((c.busy_seconds - self._saved_at.get(w, 0.0) for w, c in self._last.items()), default=0.0)
