"""A level that is done, decoded in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from raytile.engine.decoding import Decoder
from raytile.geometry.box import Box
from raytile.models import registry
from raytile.plan.plan import Plan

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas


def level_picture(plan: Plan, canvas: Canvas, level: int) -> NDArray[np.uint8]:
    """Pixels [h, w, 3] of a coarser level of `plan` whose latents are on `canvas`."""
    tiling, factor = plan.levels[level].tiling, plan.spec.factor
    decoder = Decoder(plan, registry.load(plan.spec, "cpu", plan.request.dtype), canvas, level)
    picture = np.zeros((tiling.y.cells * factor, tiling.x.cells * factor, 3), dtype=np.uint8)
    for tile in range(tiling.count):
        with torch.inference_mode():
            pixels, _ = decoder.decode(tile)
        box = Box(*(edge * factor for edge in tiling.core(tile)))
        values = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        picture[box.y0 : box.y1, box.x0 : box.x1] = values.numpy()
    return picture
