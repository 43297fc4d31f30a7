"""The contract of workers: what the driver asks of a pool, in this process or on Ray. No torch here."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raytile.canvas.layout import CanvasLayout
from raytile.plan.plan import Plan
from raytile.plan.route import Partition

Ref = Hashable
"""A value that will be there: the driver passes it on and never looks inside a message."""


@dataclass(frozen=True)
class Setup:
    """What a worker is told at its start; all else it works out from the plan. `token` names the run on the head."""

    plan: Plan
    partition: Partition
    canvas: str
    layout: CanvasLayout
    device: str
    token: str


@dataclass(frozen=True)
class Outcome:
    """A ref that came through: its value, or why it did not; `lost` if because a worker's process is gone."""

    ref: Ref
    value: Any = None
    error: BaseException | None = None
    lost: bool = False


class Pool(Protocol):
    """Workers numbered from 0. Calls on one worker run one after the other, in the order they were made."""

    workers: int
    ahead: int
    """How many phases are worth submitting beyond the slowest worker."""

    def connect(self) -> None:
        """Find a place for every worker and settle how many; `ClusterError`, saying what is free, if there is none.

        Comes before anything is written."""
        ...

    def start(self, setup: Setup) -> list[Ref]:
        """Have every worker load its module; each ref becomes its `WorkerReady`."""
        ...

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        """Call a method of `engine.worker.Worker`; arguments that are refs arrive as their values."""
        ...

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        """Those of `refs` that are through after `timeout` seconds at most (at least one, if it did not run out)."""
        ...

    def close(self) -> None:
        """End the workers and free what they hold. Safe to call twice."""
        ...
