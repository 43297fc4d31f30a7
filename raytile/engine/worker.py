"""One worker: a module, a tile group, and the way to the canvas. The same object serves in this process and on Ray.

Calls return a list: a small report for the driver first, then one message per receiver."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from raytile import __version__
from raytile.canvas.canvas import Canvas
from raytile.engine.memory import peak_rss_bytes
from raytile.engine.messages import Flat
from raytile.engine.pool import Setup
from raytile.engine.tile_group import TileGroup
from raytile.errors import CanvasError, InvalidRequest, RenderFailed
from raytile.events import Counts, PhaseDone, TileDone, WorkerReady
from raytile.models import registry
from raytile.models.base import Module
from raytile.models.probe import probe


class Worker:
    """Worker number `number`. `module` is given where several workers in one process share one."""

    def __init__(self, number: int, setup: Setup, module: Module | None = None) -> None:
        device = pick_device(setup.device)
        self.number, self.device = number, device
        self.module = module or registry.load(setup.plan.spec, device, setup.plan.request.dtype)
        self.group = TileGroup(setup.plan, self.module, setup.partition, number)
        self._canvas, self._token = Canvas(setup.canvas, setup.layout), setup.token
        self._micro_batch = setup.plan.micro_batch
        self._busy = 0.0
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

    def begin(self, phase: int, level: int, *messages: Flat) -> list[Any]:
        with self._timed():
            if phase == 0 and self._canvas.head().owner.token != self._token:
                raise CanvasError(
                    f"{self._canvas.path} on {socket.gethostname()} is not the driver's canvas: on more than one node "
                    "it must lie in a directory that all of them share"
                )
            self.group.begin(level, *messages)
        return [self._done(phase)]

    def early(self, level: int, step: int) -> int:
        with self._timed():
            return self.group.early(level, step)

    def step(self, phase: int, level: int, step: int, *predictions: Flat) -> list[Any]:
        with self._timed():
            sent = self.group.step(level, step, *predictions)
        return [self._done(phase), *sent]

    def end(self, phase: int, level: int, *predictions: Flat) -> list[Any]:
        with self._timed():
            sent = self.group.end(level, *predictions)
        return [self._done(phase), *sent]

    def halos(self, phase: int, *messages: Flat) -> list[Any]:
        with self._timed():
            self.group.halos(*messages)
        return [self._done(phase)]

    def decode(self, tile: int) -> TileDone:
        """Decode one of my tiles and write it: its latents first, its pixels after."""
        with self._timed():
            pixels = self.group.decode(tile)
            if not bool(torch.isfinite(pixels).all()):
                raise RenderFailed(f"tile {tile} came out as no picture (NaN): try another --dtype or --guidance")
            levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            box = self._canvas.layout.pixels(tile)
            latents_sha256 = self._canvas.write_latents(tile, self.group.latents(tile).numpy())
            pixels_sha256 = self._canvas.write_image(tile, levels[:, : box.height, : box.width])
        return TileDone(self.number, tile, latents_sha256, pixels_sha256, self.counts())

    def _done(self, phase: int) -> PhaseDone:
        return PhaseDone(self.number, phase, self.counts())

    def counts(self) -> Counts:
        return replace(self.group.counts(), busy_seconds=self._busy, peak_rss_bytes=peak_rss_bytes())

    @contextmanager
    def _timed(self) -> Iterator[None]:
        if self._broken is not None:
            # Calls already in the queue run on after a failure: they repeat its cause, not its consequences.
            raise self._broken
        start = time.perf_counter()
        try:
            with torch.inference_mode():
                yield
        except Exception as error:
            self._broken = error
            raise
        finally:
            self._busy += time.perf_counter() - start


def pick_device(wish: str) -> str:
    """`auto` is CUDA where the process sees a device. Raises `InvalidRequest` for CUDA where it sees none."""
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest(f"device: a worker on {socket.gethostname()} sees no CUDA device: use --device auto")
    return wish
