"""Previews of one worker: what its tiles promise to be, written to the canvas while it goes on painting.

Writing happens in a thread of its own, so that no step waits for it; what is overtaken by a newer one is left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from raytile.canvas.areas import block_means
from raytile.canvas.patience import Patience
from raytile.events import PreviewPart
from raytile.models.preview import colours_of
from raytile.sampling import Schedule, clean_estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from raytile.canvas.canvas import Canvas
    from raytile.geometry.box import Box
    from raytile.models.base import Module
    from raytile.plan.plan import Plan

    Colours = NDArray[np.uint8]

PATIENCE = 5.0
"""Seconds that a preview waits for a store that is away."""


@dataclass
class Shown:
    """What a step promises, tile by tile."""

    epoch: int
    level: int
    step: int
    tiles: dict[int, Any] = field(default_factory=dict)


class Previews:
    """What worker `worker` shows of `plan` on `canvas`: the second step of a level, each `every`-th and the last.

    The first step of all is not worth it: what guidance alone promises of pure noise is far off, with terra all black.
    `epoch` is the one that it works in, for its reports."""

    def __init__(self, worker: int, plan: Plan, module: Module, canvas: Canvas, every: int) -> None:
        self.epoch = 0
        self._worker, self._plan, self._every = worker, plan, every
        self._canvas = canvas.with_patience(Patience(PATIENCE))
        self._colours = colours_of(module)
        self._now: Shown | None = None
        self._next: Shown | None = None
        self._stored: list[PreviewPart] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._dropped = False

    def wants(self, level: int, step: int) -> bool:
        """Whether step `step` (index into the schedule) of `level` is shown."""
        this = self._plan.levels[level]
        number = step - this.first_step + 1
        return step == this.steps - 1 or number == 2 or (number > 2 and number % self._every == 0)

    def take(self, level: int, step: int, tile: int, x: Tensor, prediction: Tensor, schedule: Schedule) -> None:
        """Note what `prediction` of a step promises for a tile whose latents were `x` at its start."""
        if self._now is None or (self._now.level, self._now.step) != (level, step):
            self._now = Shown(self.epoch, level, step)
        self._now.tiles[tile] = self._colours.of(clean_estimate(x, prediction, step, schedule))

    def store(self) -> None:
        """Begin to write what was taken since the last time."""
        shown, self._now = self._now, None
        if shown is None:
            return
        with self._lock:
            self._next = shown
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, daemon=True, name="preview")
                self._thread.start()

    def news(self) -> tuple[PreviewPart, ...]:
        """What was written since the last time."""
        stored = tuple(self._stored)
        del self._stored[: len(stored)]  # more may have come meanwhile, from the thread
        return stored

    def drop(self) -> None:
        """Nothing that was taken so far is wanted any more. When this returns, nothing is being written."""
        self._now = None
        with self._lock:
            self._next, self._dropped = None, True
        self.settle()
        self._dropped = False

    def settle(self) -> None:
        """Wait until nothing is being written any more."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        while True:
            with self._lock:
                shown, self._next = self._next, None
                if shown is None:
                    self._thread = None
                    return
            start = time.perf_counter()
            try:
                for tile, colours in shown.tiles.items():
                    if self._dropped:
                        break
                    self._canvas.write_preview(shown.level, tile, colours)
            except Exception:  # a picture does not fail for want of its preview
                continue
            if self._dropped:
                continue
            seconds, number = time.perf_counter() - start, shown.step - self._plan.levels[shown.level].first_step + 1
            part = PreviewPart(self._worker, shown.epoch, shown.level, number, len(shown.tiles), seconds)
            self._stored.append(part)


@contextmanager
def beside(canvas: Canvas, level: int, tile: int, colours: Colours) -> Iterator[None]:
    """Write the preview of a tile that is done while the body writes its pixels; whether it goes well or not."""

    def write() -> None:
        with suppress(Exception):
            canvas.with_patience(Patience(PATIENCE)).write_preview(level, tile, colours)

    thread = threading.Thread(target=write, daemon=True, name="preview")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def reduced(pixels: Colours, core: Box, factor: int) -> Colours:
    """The mean colours (3, h, w), from 1 to 255, of the cells of `core`, whose pixels uint8 (3, ...) may end early, at
    the picture's edge; cells beyond it are like their neighbours."""
    means = np.rint(block_means(pixels, factor) * 255).astype(np.uint8)
    more = core.height - means.shape[1], core.width - means.shape[2]
    padded: Colours = np.pad(means, ((0, 0), (0, more[0]), (0, more[1])), mode="edge")
    return padded.clip(1)
