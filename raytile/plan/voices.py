"""Who speaks in a window: the base prompt and the regions of a scene, each with words and guidance of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raytile.plan.area import Floats, Period, fills, touches
from raytile.plan.scene import Region


@dataclass(frozen=True)
class Voice:
    """Words, what to keep away from, and how hard to follow. Number 0 of a level is the base prompt's."""

    prompt: str
    negative: str
    guidance: float

    def texts(self, guided: bool) -> tuple[str, ...]:
        """What the network is asked with: one row each."""
        return (self.negative, self.prompt) if guided and self.guidance > 1 else (self.prompt,)


def speaking(
    regions: Sequence[Region], boxes: Floats, of: NDArray[np.int64], count: int, period: Period
) -> NDArray[np.bool_]:
    """[count, 1 + regions]: which voices a window hears. `boxes` [n, (y0, y1, x0, x1)] are the parts of the picture,
    in pixels, that the windows numbered `of` see. By bounding boxes, so a voice may be heard that says nothing."""
    heard = np.zeros((count, 1 + len(regions)), dtype=bool)
    bare = np.ones(len(boxes), dtype=bool)
    for number, region in enumerate(regions, start=1):
        np.logical_or.at(heard[:, number], of, touches(region, boxes, period))
        bare &= ~fills(region, boxes)
    np.logical_or.at(heard[:, 0], of, bare)
    return heard


def shares(covers: Sequence[NDArray[np.floating]], weights: Sequence[float]) -> list[NDArray[np.float32]]:
    """How much of each cell every voice has, base first; they sum to 1. `covers`: of each region, in [0, 1].

    Regions mix by weight; the base has what they leave."""
    said = [np.asarray(cover, dtype=np.float64) * weight for cover, weight in zip(covers, weights, strict=True)]
    taken = np.minimum(np.sum([np.asarray(c, dtype=np.float64) for c in covers], axis=0), 1.0)
    whole = np.sum(said, axis=0)
    scale = np.divide(taken, whole, out=np.zeros_like(whole), where=whole > 0)
    return [(1.0 - taken).astype(np.float32), *((part * scale).astype(np.float32) for part in said)]
