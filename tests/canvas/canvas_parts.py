"""What the canvas tests share: a small layout, a head for it, and tiles whose values name their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from raytile.canvas.bytes import Bytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, ModelName, Owner
from raytile.canvas.layout import CanvasLayout
from raytile.plan.request import RenderRequest

SMALL = CanvasLayout(width=90, height=70, channels=4, rows=10, columns=12, tile_cells=4, factor=8)


def owner(token: str = "t0", host: str = "here", pid: int | None = None) -> Owner:
    return Owner(host=host, pid=os.getpid() if pid is None else pid, token=token)


def head(layout: CanvasLayout = SMALL, **changes: Any) -> Head:
    values: dict[str, Any] = {
        "request": RenderRequest(prompt="an island", width=layout.width, height=layout.height, seed=7),
        "plan_hash": "p" * 64,
        "model": ModelName(name="terra", digest="d" * 64),
        "versions": {"raytile": "0.1.0", "zarr": "3"},
        "owner": owner(),
        "created": 1000.0,
        "updated": 1000.0,
        "steps": 4,
        "tiles_total": layout.tiles,
    }
    return Head(**{**values, **changes})


def pixels(layout: CanvasLayout, tile: int, seed: int = 0) -> np.ndarray[Any, Any]:
    box = layout.pixels(tile)
    return np.random.default_rng([seed, tile]).integers(0, 256, (3, box.height, box.width), np.uint8)


def cells(layout: CanvasLayout, tile: int, seed: int = 0) -> np.ndarray[Any, Any]:
    box = layout.cells(tile)
    shape = (layout.channels, box.height, box.width)
    return np.random.default_rng([seed, tile]).standard_normal(shape, np.float32)


def painted(canvas: Canvas, seed: int = 0) -> Canvas:
    """The same canvas, finished, with the values above."""
    for tile in range(canvas.layout.tiles):
        canvas.write_image(tile, pixels(canvas.layout, tile, seed))
        canvas.write_latents(tile, cells(canvas.layout, tile, seed))
    canvas.commit(lambda found: found.with_tiles(range(canvas.layout.tiles), 2.0).but(state="finished"))
    return canvas


class Cut(Exception):
    """The power has gone."""


class Failing:
    """Objects whose power goes after so many requests."""

    def __init__(self, objects: Bytes, cut: int) -> None:
        self.objects, self.where, self.left = objects, objects.where, cut

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            if self.left <= 0:  # several threads may ask at once
                raise Cut
            self.left -= 1
            return getattr(self.objects, name)(*args)

        return counted
