"""When to come again: each who is refused is promised a place of its own, and finds it there. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

KEPT = 30.0
"""Seconds that a promised place is kept after its time."""
SOON = 5.0
"""Seconds before its time from which a promised place is kept free of others."""
OVER = 2.0
"""How far beyond its limit a queue may grow to keep promises that turn out to have been too good."""
LONGEST = 3600.0


@dataclass
class Promises:
    """Of one queue. `most`: how many may be open at once; who is refused beyond that is told the last time again."""

    most: int
    _due: dict[str, float] = field(default_factory=dict)
    _made: int = 0

    def ask(self, now: float, name: str | None, waiting: int, limit: int, slot: float) -> int | None:
        """Whether one more may come into a queue of `waiting`, of `limit` at most: None if so, and their place is
        taken, else whole seconds to wait (see `refuse`)."""
        if self.open_to(now, name, waiting, limit):
            self.enter(now, name)
            return None
        return self.refuse(now, name, slot)

    def open_to(self, now: float, name: str | None, waiting: int, limit: int) -> bool:
        """Whether there is a place. Who has a `name` is known again by it; who has none takes any promise due."""
        self._due = {who: due for who, due in self._due.items() if now < due + KEPT and due <= now + LONGEST}
        mine = self._mine(now, name)
        if mine is not None and waiting < limit * OVER:
            return True
        others = sum(due <= now + SOON for who, due in self._due.items() if who != name)
        return waiting + others < limit

    def enter(self, now: float, name: str | None) -> None:
        """Take the place that is `open_to` them."""
        self._due.pop(self._mine(now, name) or name or "", None)

    def refuse(self, now: float, name: str | None, slot: float) -> int:
        """Promise a place; returns the whole seconds after which it is there. One comes free every `slot` seconds, as
        far as is known."""
        due = self._due.get(name or "")
        if due is None or due <= now:
            last = max([now, *self._due.values()])
            due = min(last + slot, now + LONGEST)
            if len(self._due) < self.most:
                self._made += 1
                self._due[name or f"#{self._made}"] = due
            else:
                due = max(last, now + slot)
        return max(1, math.ceil(min(due - now, LONGEST)))

    def _mine(self, now: float, name: str | None) -> str | None:
        """The promise of theirs that is due."""
        mine = name if name in self._due else next((who for who in self._due if who[:1] == "#"), None)
        return mine if mine is not None and self._due[mine] <= now else None
