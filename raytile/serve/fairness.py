"""Who gets how many workers. Pure: everybody's share follows from what they want, have, and have had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUANTUM = 20.0
"""Seconds of one worker's work after which another render's turn comes, where there are more renders than workers."""


@dataclass(frozen=True)
class Wish:
    """A render that could use `useful` workers and has `held`. `used`: evaluations that it is charged with, those of
    its `owner` with all renders being in `charged`. Higher `priority` counts more; ids sort by age."""

    id: str
    owner: str
    useful: int
    held: int = 0
    used: float = 0.0
    priority: int = 0


def shares(wishes: Sequence[Wish], charged: Mapping[str, float], workers: int, quantum: float) -> dict[str, int]:
    """How many of `workers` each render should have.

    Workers are dealt one by one to the owner who has fewest, and of theirs to the render that has fewest for its
    priority. Where there are more renders than workers it is a deficit round robin (Shreedhar and Varghese 1996) by
    evaluations: whoever was charged with fewest whole quanta comes first, so that a render keeps its worker for a
    quantum and then waits for its turn."""
    dealt = dict.fromkeys((wish.id for wish in wishes), 0)
    owners = dict.fromkeys((wish.owner for wish in wishes), 0)
    # from the least of those who are here: else a quantum that is measured anew would move all bounds at once
    least = min((charged.get(owner, 0.0) for owner in owners), default=0.0)
    begun = {owner: min(wish.used for wish in wishes if wish.owner == owner) for owner in owners}

    def turn(wish: Wish) -> tuple[float | str | bool, ...]:
        return (
            owners[wish.owner],
            dealt[wish.id] / weight(wish.priority),
            (charged.get(wish.owner, 0.0) - least) // quantum,
            (wish.used - begun[wish.owner]) // quantum,
            -wish.priority,
            wish.held == 0,
            wish.id,
        )

    for _ in range(workers):
        open_ = [wish for wish in wishes if dealt[wish.id] < wish.useful]
        if not open_:
            break
        first = min(open_, key=turn)
        dealt[first.id] += 1
        owners[first.owner] += 1
    return dealt


def weight(priority: int) -> float:
    """How many times as many workers a priority is worth: twice for each three steps."""
    return float(2 ** (priority / 3))


class Ledger:
    """What renders and their owners are charged with. Who comes new, or again, starts where those who are served least
    stand: to have been away is no credit."""

    def __init__(self) -> None:
        self.renders: dict[str, float] = {}
        self.owners: dict[str, float] = {}
        self._of: dict[str, str] = {}

    def enter(self, id: str, owner: str) -> None:
        """A render wants workers."""
        if id in self._of:
            return
        if owner not in self._of.values():
            least = min((self.owners[other] for other in set(self._of.values())), default=0.0)
            self.owners[owner] = max(self.owners.get(owner, 0.0), least)
        mine = [self.renders[other] for other, whose in self._of.items() if whose == owner]
        self.renders[id] = min(mine, default=0.0)
        self._of[id] = owner

    def charge(self, id: str, evaluations: float) -> None:
        if id in self._of:
            self.renders[id] += evaluations
            self.owners[self._of[id]] += evaluations

    def leave(self, id: str) -> None:
        """A render has ended."""
        self._of.pop(id, None)
        self.renders.pop(id, None)


class Rate:
    """How many evaluations a worker does in a second, about: a mean that forgets. Times are seconds of one clock."""

    def __init__(self, now: float) -> None:
        self._mean, self._at = 0.0, now

    def begin(self, now: float) -> None:
        """Nobody has worked until now."""
        self._at = now

    def add(self, evaluations: float, now: float, workers: int) -> None:
        """So many were done by so many workers since the last were told of."""
        seconds, self._at = (now - self._at) * max(1, workers), now
        if seconds > 0:
            keep = 0.5 ** (seconds / QUANTUM)
            self._mean = self._mean * keep + evaluations / seconds * (1 - keep)

    @property
    def quantum(self) -> float:
        """Evaluations of one worker's turn."""
        return max(1.0, self._mean * QUANTUM)
