"""The workers of a render: on their way, there, going, lost; and how often in a row they were lost. Pure."""

from __future__ import annotations

from collections.abc import Collection

from raytile.events import WorkerReady


class Roster:
    """`loading`: the workers there are, all told to load; of these a render waits for `expected` before it starts.
    `version` is the driver's; `probe` what the devices that began the canvas compute, if that is known."""

    def __init__(self, version: str, probe: str | None, loading: Collection[int], expected: Collection[int]) -> None:
        self.probe = probe
        self.loading, self.expected = set(loading), set(expected)
        self.ready: dict[int, WorkerReady] = {}
        self.leaving: set[int] = set()
        self.asked = 0
        """How many more have been asked for that have no number yet."""
        self.losses = 0
        """How often in a row workers were lost; those that fell together count once."""
        self._version = version
        self._newcomers: set[int] = set()
        self._begun = False

    def there(self) -> int:
        """How many can be counted on, now or later."""
        return len((set(self.ready) | self.loading) - self.leaving) + self.asked

    def came(self, event: WorkerReady) -> None:
        """A worker has loaded and is fit."""
        self.probe = event.probe
        self.ready[event.worker] = event
        self._newcomers.add(event.worker)

    def odd(self, event: WorkerReady) -> str:
        """Why this worker cannot take part, if it cannot."""
        if event.version != self._version:
            return f"raytile is {event.version} on {event.node} and {self._version} here: install one version"
        if self.probe in (None, event.probe):
            return ""
        other = next(iter(self.ready.values()), None)
        than = f"worker {other.worker} ({other.device} on {other.node})" if other else "those that began this canvas"
        return (
            f"worker {event.worker} ({event.device} on {event.node}) and {than} do not compute alike, so the picture "
            "would depend on who painted what: use one kind of device"
        )

    def lost(self, worker: int) -> None:
        """Count a loss, unless it belongs to the one before: a worker of old, and nothing has begun since."""
        if worker in self.loading or worker in self._newcomers or self._begun or not self.losses:
            self.losses, self._begun = self.losses + 1, False
            self._newcomers.clear()

    def begun(self) -> None:
        """Those that are there have finished something."""
        self._begun = True

    def safe(self) -> None:
        """Something is done that no loss can undo."""
        self.losses = 0

    def forget(self, worker: int) -> None:
        self.ready.pop(worker, None)
        for where in (self.loading, self.expected, self.leaving):
            where.discard(worker)

    def lost_too_often(self) -> str:
        """Why to give up, in words."""
        return f"{self.losses} times in a row workers were lost and nothing was finished in between"

    def check(self) -> None:
        """The invariants; raises AssertionError."""
        assert not set(self.ready) & self.loading
        assert self.asked >= 0
