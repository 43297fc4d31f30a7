"""One worker: a module, a tile group, and the way to the canvas. The same object serves in this process and on Ray.

Calls return a list: a small report for the driver first, then one message per receiver."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raytile import __version__
from raytile.canvas import shared
from raytile.canvas.canvas import Canvas
from raytile.canvas.digest import digest
from raytile.canvas.patience import Patience, store_deadline
from raytile.engine.decoding import Decoder
from raytile.engine.memory import peak_rss_bytes
from raytile.engine.messages import Flat
from raytile.engine.pool import Setup
from raytile.engine.previews import PATIENCE, Previews, beside, reduced
from raytile.engine.saver import Saver
from raytile.engine.tile_group import TileGroup
from raytile.errors import Abandoned, CanvasError, InvalidRequest, RenderFailed, WorkerLost, first_line
from raytile.events import Counts, PhaseDone, TileDone, WorkerReady
from raytile.models import registry
from raytile.models.base import Module
from raytile.models.probe import probe
from raytile.plan.route import Partition


class Worker:
    """Worker number `number`. `module` is given where one is loaded already; `stopped` says, while a call runs, whether
    it is wanted no more."""

    def __init__(
        self, number: int, setup: Setup, module: Module | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        shared.check_proof(setup.canvas, setup.token, socket.gethostname())
        device = pick_device(setup.device)
        self.number, self.device = number, device
        self.module = module or registry.load(setup.plan.spec, device, setup.plan.request.dtype)
        self._lock = threading.Lock()
        self._canvas = Canvas(setup.canvas, setup.layout, patience=Patience(store_deadline(), on_trouble=self._tried))
        every, told = setup.preview_every, (number, setup.plan, self.module, self._canvas)
        self._previews = Previews(*told, every) if every else None
        self.group = TileGroup(setup.plan, self.module, number, stopped, self._canvas, self._previews)
        self._parts = self.group.parts
        self._decoder = Decoder(setup.plan, self.module, self._canvas)
        self._last = len(setup.plan.levels) - 1
        self._saver = Saver(number, self._canvas)
        self._micro_batch = setup.plan.micro_batch
        self._epoch = 0
        self._busy = self._waited = 0.0
        self._left: float | None = None  # when the last call ended
        self._store_errors = 0
        self._broken: Exception | None = None

    def ready(self) -> WorkerReady:
        """Who I am, and the digest by which devices that compute alike know each other."""
        return WorkerReady(
            worker=self.number,
            node=socket.gethostname(),
            pid=os.getpid(),
            device=self.device,
            probe=probe(self.module, self._micro_batch),
            version=__version__,
            peak_rss_bytes=peak_rss_bytes(),
        )

    # -- epochs --------------------------------------------------------------------------------------------------

    def restore(self, epoch: int, phase: int, partition: Partition) -> None:
        """Go back, or on, to the start of phase `phase`; calls of earlier epochs count no more."""
        self._epoch, self._broken = epoch, None
        self._show_as(epoch)
        with self._timed(epoch):
            if self._previews is not None:
                self._previews.drop()
            self.group.restore(phase, partition, lambda tile: self._saver.read(phase, tile))

    def export(self, epoch: int, after: Partition, *predictions: Flat) -> list[Any]:
        """End an epoch: hand my cells over."""
        with self._timed(epoch):
            sent = self.group.export(after, *predictions)
            if self._previews is not None:
                self._previews.settle()  # before others show these tiles
        return [None, *sent]

    def assume(self, epoch: int, phase: int, before: Partition, after: Partition, *messages: Flat) -> None:
        """Begin an epoch with what was handed over."""
        with self._timed(self._epoch):
            self.group.assume(phase, before, after, *messages)
        self._epoch = epoch
        self._show_as(epoch)

    def _show_as(self, epoch: int) -> None:
        if self._previews is not None:
            self._previews.epoch = epoch

    # -- phases --------------------------------------------------------------------------------------------------

    def clean(self, epoch: int, phase: int, level: int, *messages: Flat) -> list[Any]:
        with self._timed(epoch):
            sent = self.group.clean(level, *messages)
        return [self._done(epoch, phase), *sent]

    def begin(self, epoch: int, phase: int, level: int, *messages: Flat) -> list[Any]:
        with self._timed(epoch):
            self.group.begin(level, *messages)
        return [self._done(epoch, phase)]

    def early(self, epoch: int, level: int, step: int) -> int:
        with self._timed(epoch):
            return self.group.early(level, step)

    def step(self, epoch: int, phase: int, level: int, step: int, whole: int, save: bool, *said: Flat) -> list[Any]:
        """A step; with `save` my tiles are saved as they are at its start. No phase before `whole` is gone back to."""
        with self._timed(epoch):
            sent = self.group.step(level, step, *said)
            if save:
                self._saver.save(epoch, phase, self.group.saved())
            self._saver.forget(whole)
        return [self._done(epoch, phase), *sent]

    def lane(self, epoch: int, phase: int, level: int, step: int, *cells: Flat) -> list[Any]:
        with self._timed(epoch):
            sent = self.group.lane(level, step, *cells)
        return [self._done(epoch, phase), *sent]

    def end(self, epoch: int, phase: int, level: int, *predictions: Flat) -> list[Any]:
        with self._timed(epoch):
            sent = self.group.end(level, *predictions)
            if level < self._last:
                with self._parts.timed("write"):
                    for tile, cells in self.group.finished().items():
                        self._canvas.write_level(level, tile, cells)
        return [self._done(epoch, phase), *sent]

    def keep(self, epoch: int, phase: int) -> list[Any]:
        """Put the final latents of my tiles onto the canvas. No snapshot is worth anything from here on."""
        with self._timed(epoch), self._parts.timed("write"):
            self._saver.settle()
            if self._previews is not None:
                self._previews.settle()
            for tile, cells in self.group.keep().items():
                self._canvas.write_latents(tile, cells)
        return [self._done(epoch, phase)]

    # -- tiles ---------------------------------------------------------------------------------------------------

    def decode(self, tile: int, again: bool) -> TileDone:
        """Decode any tile whose latents, and those around it, are on the canvas, and write its pixels. With `again`
        false a tile that is there already, whole, is only read."""
        with self._timed(self._epoch):
            if not again:
                # What is damaged is decoded after all, unless it was copied: nothing is there to decode it from.
                copied = self.group.plan.partial and not self.group.plan.active[tile]
                with suppress(*(() if copied else (CanvasError,))):
                    found = self._canvas.latents_digest(tile), self._canvas.pixels_digest(tile)
                    return TileDone(self.number, tile, *found, self.counts())
            with self._parts.timed("decode"):
                pixels, cells = self._decoder.decode(tile)
            if not bool(torch.isfinite(pixels).all()):
                raise RenderFailed(f"tile {tile} came out as no picture (NaN): try another --dtype or --guidance")
            levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            box = self._canvas.layout.pixels(tile)
            shown = self._decoder.blended(box, levels[:, : box.height, : box.width])
            with self._parts.timed("write"):
                pixels_sha256 = self._write(tile, shown)
        return TileDone(self.number, tile, digest(cells.numpy()), pixels_sha256, self.counts())

    def _write(self, tile: int, shown: NDArray[np.uint8]) -> str:
        """Put a tile's pixels onto the canvas, and their means in place of its preview; returns their digest."""
        layout = self._canvas.layout
        if not layout.pixels(tile).area:
            return self._canvas.write_image(tile, shown)
        with beside(self._canvas, self._last, tile, reduced(shown, layout.cells(tile), layout.factor)):
            return self._canvas.write_image(tile, shown)

    def settle(self) -> None:
        """The render is over for me: when this returns, nothing of mine is being written to its canvas any more, unless
        its store is away."""
        if self._previews is not None:
            self._previews.drop()
        self._saver.settle(PATIENCE)

    # -- what calls share ----------------------------------------------------------------------------------------

    def _done(self, epoch: int, phase: int) -> PhaseDone:
        shown = () if self._previews is None else self._previews.news()
        return PhaseDone(self.number, epoch, phase, self.counts(), self._saver.news(), shown)

    def counts(self) -> Counts:
        return replace(
            self.group.counts(),
            busy_seconds=self._busy,
            wait_seconds=self._waited,
            peak_rss_bytes=peak_rss_bytes(),
            peak_device_bytes=torch.cuda.max_memory_allocated() if self.device == "cuda" else 0,
            store_errors=self._store_errors,
        )

    def _tried(self, why: str) -> None:  # noqa: ARG002 (how often is told, the rest is in the log of the store)
        with self._lock:  # snapshots are stored beside
            self._store_errors += 1

    @contextmanager
    def _timed(self, epoch: int) -> Iterator[None]:
        if self._broken is not None:
            # Calls already in the queue run on after a failure: they repeat its cause, not its consequences.
            raise self._broken
        if epoch != self._epoch:
            raise Abandoned(f"worker {self.number} is in epoch {self._epoch} and was called in {epoch}")
        start = time.perf_counter()
        if self._left is not None:
            self._waited += start - self._left
        try:
            with torch.inference_mode():
                yield
        except Exception as error:
            self._broken = _lost_device(error) or error
            raise self._broken from error
        finally:
            self._left = time.perf_counter()
            self._busy += self._left - start


def _lost_device(error: Exception) -> WorkerLost | None:
    """A GPU that fell off the bus is a lost worker: another process on another device does not meet the same."""
    if isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError):
        return WorkerLost(f"its device failed on {socket.gethostname()}: {first_line(error)}")
    return None


def pick_device(wish: str) -> str:
    """`auto` is CUDA where the process sees a device. Raises `InvalidRequest` for CUDA where it sees none."""
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest(f"device: a worker on {socket.gethostname()} sees no CUDA device: use --device auto")
    return wish
