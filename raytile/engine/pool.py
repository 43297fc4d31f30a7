"""The contract of workers: what the driver asks of a pool, in this process or on Ray. No torch here."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from raytile.canvas.layout import CanvasLayout
from raytile.errors import InvalidRequest
from raytile.plan.plan import Plan

Ref = Hashable
"""A value that will be there: the driver passes it on and never looks inside a message."""

MAX_WORKERS = 4096
AUTO_MOST = 64


@dataclass(frozen=True)
class Setup:
    """What a worker is told at its start; all else it works out from the plan. `token` names the run on the head.

    `preview_every`: steps from preview to preview, 0 for none; it changes no pixel of the picture."""

    plan: Plan
    canvas: str
    layout: CanvasLayout
    device: str
    token: str
    preview_every: int = 0


@dataclass(frozen=True)
class Crew:
    """How many workers a render wants: it starts with `least` and takes in more as they come, up to `most`.

    None leaves that to the pool: one per GPU of the cluster, else per CPU."""

    least: int | None = None
    most: int | None = None

    @classmethod
    def parse(cls, text: str | int | None) -> Crew:
        """From "4", "2..16" or "auto" (1 up to 64, as far as there is work); `InvalidRequest` if it is none of them."""
        if text is None:
            return cls()
        if text == "auto":
            return cls(1, AUTO_MOST)
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:\.\.\s*(\d{1,6})\s*)?", str(text))
        if match is None:
            raise InvalidRequest(f"workers: write a number, a range such as 2..16, or auto (got {text!r})")
        least, most = int(match[1]), int(match[2] or match[1])
        if not 1 <= least <= most <= MAX_WORKERS:
            raise InvalidRequest(f"workers: must be 1 to {MAX_WORKERS}, the smaller first (got {text})")
        return cls(least, most)


@dataclass(frozen=True)
class Outcome:
    """A ref that came through: its value, or why it did not. `lost` is the worker whose process is gone, if that is
    why: the one that was called, or one whose message the call waited for."""

    ref: Ref
    value: Any = None
    error: BaseException | None = None
    lost: int | None = None


class Pool(Protocol):
    """Workers, each known by a number that is never used twice. Calls on one worker run one after the other, in the
    order they were made."""

    least: int
    """How many have to be there before a render starts, once connected."""
    most: int
    """How many a render takes in, once connected."""
    ahead: int
    """How many phases are worth submitting beyond the slowest worker."""
    lent: bool
    """Whether others wait for the workers, so that those without work shall be released."""

    @property
    def cluster(self) -> Literal["none", "own", "shared"]:
        """Whether the workers are on Ray, once connected: on one that ends with this pool, or one that others use."""
        ...

    def connect(self, useful: int) -> None:
        """Settle `least` and `most` (no more than `useful`, the most that would have work), ask for `most` workers
        and find places for `least`; `ClusterError`, saying what is free, if there are none.

        Comes before anything is written."""
        ...

    def workers(self) -> tuple[int, ...]:
        """All that were asked for and are neither lost nor released, ascending, placed or not."""
        ...

    def placed(self) -> tuple[int, ...]:
        """Of `workers` those that have a place."""
        ...

    def hire(self, count: int) -> tuple[int, ...]:
        """Ask for so many more; each comes when there is a place for it, and asks for one until then."""
        ...

    def load(self, worker: int, setup: Setup) -> Ref:
        """Have a worker load its module, as soon as it has a place; the ref becomes its `WorkerReady`."""
        ...

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        """Call a method of `engine.worker.Worker`; arguments that are refs arrive as their values."""
        ...

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        """Those of `refs` that are through after `timeout` seconds at most (at least one, if it did not run out)."""
        ...

    def cancel(self, refs: Collection[Ref]) -> None:
        """Of these calls, those not begun never will be; one that runs is asked to stop. All come through as errors,
        unless they were done."""
        ...

    def leaving(self) -> Mapping[int, float]:
        """Workers whose place will be taken away, and in how many seconds."""
        ...

    def release(self, worker: int) -> None:
        """This worker is not needed any more: its place becomes free."""
        ...

    def close(self) -> None:
        """End all workers and free what they hold. Safe to call twice."""
        ...
