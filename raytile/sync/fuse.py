"""Predictions of windows become one prediction per cell: a weighted mean, summed in ascending window order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from raytile.errors import RaytileError
from raytile.geometry.box import Box


class Contribution(NamedTuple):
    """What one window says about the cells of `box`: `values` [channels, h, w], `weights` [h, w] (None: all 1)."""

    box: Box
    values: Tensor
    weights: Tensor | None


def profile(kind: str, size: int) -> Tensor | None:
    """Weights along one axis of a window of `size` cells; the window's are the outer product. None: uniform.

    gaussian: variance 0.01 in units of the window, about its middle (Mixture of Diffusers, Jimenez 2023).
    linear: rises from the edge to the middle and falls again, nowhere 0."""
    middle = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    if kind == "uniform":
        return None
    if kind == "gaussian":
        weights = torch.exp(-((middle / size) ** 2) / (2 * 0.01)) / math.sqrt(2 * math.pi * 0.01)
    else:
        weights = (size + 1) / 2 - middle.abs()
    return weights.to(torch.float32)


def fuse(core: Box, channels: int, contributions: Iterable[Contribution], idle: Tensor | None = None) -> Tensor:
    """One prediction per cell of `core`, [channels, h, w] float32: the sum in the order given, over the weights' sum.

    The caller gives contributions in ascending window id, so that the bits do not depend on who predicted what.
    Raises if a cell has no contribution (law 1 is broken), but for those that are `idle` [h, w]: they get 0."""
    total = torch.zeros(channels, core.height, core.width)
    weight = torch.zeros(core.height, core.width)
    for box, values, weights in contributions:
        place = box.shift(-core.y0, -core.x0)
        rows, columns = slice(place.y0, place.y1), slice(place.x0, place.x1)
        if weights is None:
            total[:, rows, columns] += values
            weight[rows, columns] += 1
        else:
            total[:, rows, columns] += values * weights
            weight[rows, columns] += weights
    if idle is not None:
        weight = torch.where(idle & (weight <= 0), 1.0, weight)
    if bool((weight <= 0).any()):
        raise RaytileError(f"no window covers some cell of {core}: this is a fault in raytile, please report it")
    return total / weight


def guide(negative: Tensor, positive: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022), before the sampler's update."""
    return negative + guidance * (positive - negative)
