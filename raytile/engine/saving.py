"""When to take a snapshot, and when one is whole: one at a time, each by all members of an epoch. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from raytile.engine import policy
from raytile.events import SnapshotStored


@dataclass
class Storing:
    """A snapshot on its way: of which phase and epoch, and which members have still to store their part."""

    phase: int
    epoch: int
    missing: set[int]
    cost: float = 0.0


class Saving:
    """The snapshots of a render. `whole` is the phase that it can go back to; `every` as in `Bounds`."""

    def __init__(self, whole: int, every: int | None) -> None:
        self.whole = self.tried = whole
        self._every = every
        self._storing: Storing | None = None
        self._cost: float | None = None

    @property
    def under_way(self) -> int | None:
        """The phase of the snapshot that the head does not speak of yet."""
        return self._storing.phase if self._storing else None

    @property
    def missing(self) -> frozenset[int]:
        """Who has still to store a part of the snapshot on its way."""
        return frozenset(self._storing.missing) if self._storing else frozenset()

    def begin(
        self, phase: int, epoch: int, members: Collection[int], steps: int, busy: float, landmark: bool = False
    ) -> bool:
        """Whether `members` shall save what they have at the start of `phase`, so many steps and seconds of work after
        the last snapshot was tried. A `landmark` is saved whatever that costs, unless nothing ever is."""
        due = (landmark and self._every != 0) or policy.snapshot_due(self._every, steps, busy, self._cost)
        if self._storing or phase <= self.whole or not due:
            return False
        self._storing, self.tried = Storing(phase, epoch, set(members)), phase
        return True

    def stored(self, event: SnapshotStored) -> bool:
        """A member has stored its part, or could not; True if with it the snapshot is complete."""
        storing = self._storing
        if storing is None or (storing.phase, storing.epoch) != (event.phase, event.epoch):
            return False
        if event.error is not None:
            self._storing = None
            return False
        storing.missing.discard(event.worker)
        storing.cost = max(storing.cost, event.seconds)
        if not storing.missing:
            self._cost = storing.cost
        return not storing.missing

    def committed(self, phase: int) -> None:
        """The head says so."""
        self.whole = max(self.whole, phase)
        if self._storing and self._storing.phase <= phase:
            self._storing = None

    def lose(self, worker: int) -> None:
        """What this worker has not stored yet it never will."""
        if worker in self.missing:
            self._storing = None

    def go_back(self) -> None:
        """The render goes on from the last whole snapshot."""
        self._storing, self.tried = None, self.whole
