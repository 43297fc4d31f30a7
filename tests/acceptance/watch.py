"""What the elastic lines share: a listener that strikes at a moment of its choice and counts what came of it."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from raytile.events import (
    Event,
    PhaseDone,
    RolledBack,
    SnapshotWhole,
    StepDone,
    TileDone,
    WorkerLeft,
    WorkerLost,
    WorkerReady,
)
from raytile.plan.request import RenderRequest


def picture(**changes: Any) -> RenderRequest:
    """A picture of the toy model that three workers paint in some 8 s; three levels, every cell depends on its
    neighbours."""
    values: dict[str, Any] = {"prompt": "hello", "width": 1200, "height": 784, "model": "toy", "seed": 3, "steps": 90}
    return RenderRequest.parse(**{**values, **changes})


class Watch:
    """Listens to one render. `strike` runs once, on a thread of its own, `after` seconds from the event of which `at`
    holds (by default the first finished phase)."""

    def __init__(
        self,
        strike: Callable[[Watch], object] | None = None,
        after: float = 0.0,
        at: Callable[[Event], bool] = lambda event: isinstance(event, PhaseDone),
    ) -> None:
        self.pids: dict[int, int] = {}
        """Workers that have loaded and are not known to be gone, by number."""
        self.rollbacks: list[RolledBack] = []
        self.lags: list[int] = []
        """At each snapshot that became whole: phases that somebody had finished since the one it holds. At each loss:
        steps begun since the snapshot that was under way then."""
        self.left: list[float] = []
        """Of each worker that left, the share of all steps that was done then."""
        self.struck: float | None = None
        """Seconds from the first finished phase to the strike."""
        self.furthest, self.share = 0, 0.0
        self.began = self.denoised = math.nan
        self.tiles = 0
        self.told: dict[str, int] = {}
        self.timer: threading.Timer | None = None
        self._strike, self._after = strike, after
        self._at: Callable[[Event], bool] | None = at

    def __call__(self, event: Event) -> None:
        name = type(event).__name__
        self.told[name] = self.told.get(name, 0) + 1
        if isinstance(event, WorkerReady):
            self.pids[event.worker] = event.pid
        elif isinstance(event, WorkerLost | WorkerLeft):
            self.pids.pop(event.worker, None)
            if isinstance(event, WorkerLeft):
                self.left.append(self.share)
        elif isinstance(event, PhaseDone):
            if math.isnan(self.began):
                self.began = time.monotonic()
            self.furthest = max(self.furthest, event.phase + 1)
        elif isinstance(event, SnapshotWhole):
            self.lags.append(self.furthest - event.phase)
        elif isinstance(event, RolledBack):
            self.rollbacks.append(event)
            self.lags.append(event.lag)
            self.furthest = event.phase
        elif isinstance(event, StepDone):
            self.denoised, self.share = time.monotonic(), event.done / event.total
        elif isinstance(event, TileDone):
            self.tiles += 1
        if self._at is not None and self._at(event):
            self._at = None
            self._launch()

    @property
    def denoising(self) -> float:
        """Seconds from the first finished phase to the last finished step."""
        return self.denoised - self.began

    def kill(self, count: int, moments: random.Random) -> None:
        """SIGKILL so many of the workers that are there now."""
        for pid in moments.sample(sorted(self.pids.values()), min(count, len(self.pids))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def over(self) -> None:
        """The render ended: a strike that has not come by now never does."""
        if self.timer is not None:
            self.timer.cancel()

    def _launch(self) -> None:
        strike = self._strike
        if strike is None:
            return

        def act() -> None:
            self.struck = time.monotonic() - self.began
            strike(self)

        self.timer = threading.Timer(self._after, act)
        self.timer.daemon = True
        self.timer.start()


def step(share: float) -> Callable[[Event], bool]:
    """The moment at which this share of all steps is done."""
    return lambda event: isinstance(event, StepDone) and event.done >= share * event.total


def words(request: RenderRequest, out: str | Path, *more: str) -> list[str]:
    """`raytile render` for a picture of `picture`, as on the command line."""
    return [
        "render", request.prompt, "--size", f"{request.width}x{request.height}", "--model", request.model,
        "--seed", str(request.seed), "--steps", str(request.steps), "--device", "cpu", "--out", str(out), *more,
    ]  # fmt: skip
