"""What a supervisor moves about, and what happens to it: the contract between the supervisor and Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raytile.serve.painting import Result
from raytile.serve.records import Record


@dataclass(frozen=True)
class Came:
    """A worker is there and has nothing to do: it is new, or it has put away what it had."""

    key: int


@dataclass(frozen=True)
class Went:
    """A worker is no more."""

    key: int


@dataclass(frozen=True)
class Returned:
    """A render needs a worker no more; one that is not `fit` has to end."""

    id: str
    key: int
    fit: bool


@dataclass(frozen=True)
class Progress:
    """A render has come so far: a share from 0 to 1."""

    id: str
    share: float


@dataclass(frozen=True)
class Closed:
    """The driver of a render is done with it; `result` None: it died."""

    id: str
    result: Result | None


News = Came | Went | Returned | Progress | Closed


class Stage(Protocol):
    """What a supervisor moves about. No method waits."""

    def most(self) -> int:
        """How many workers there may be."""
        ...

    def hire(self) -> int:
        """Ask for a worker; its key. `Came` tells when it is there."""
        ...

    def dismiss(self, key: int) -> None:
        """End a worker."""
        ...

    def leaving(self) -> frozenset[int]:
        """Workers whose node is about to be taken away."""
        ...

    def rest(self, key: int) -> None:
        """Have a worker put away what it has; `Came` or `Went` tells."""
        ...

    def open(self, record: Record) -> None:
        """Have a driver paint a claimed record, by the workers that it is lent."""
        ...

    def lend(self, id: str, key: int) -> None: ...

    def call_back(self, id: str, key: int) -> None: ...

    def stop(self, id: str) -> None:
        """Have a render end: it is wanted no more."""
        ...

    def end(self, id: str) -> None:
        """End a driver that hangs; `Closed` tells."""
        ...

    def idle(self, seconds: float) -> None:
        """End drivers that have had nothing to do for so long."""
        ...

    def news(self) -> list[News]:
        """What has happened since the last call."""
        ...
