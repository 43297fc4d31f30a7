"""Before a canvas is thinned out it is blurred, and given its spread back (DemoFusion, Du et al. 2024, arXiv
2311.16973, section 3.3): pure arithmetic, a cell's bits the same whatever tile it is worked out in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def gaussian(patch: Tensor, sigma: float, radius: int) -> Tensor:
    """[channels, h, w] with `radius` cells of surroundings on each side to the filtered [channels, h - 2 r, w - 2 r].

    The kernel is cut off at `radius` cells and sums to 1."""
    taps = [math.exp(-((tap / sigma) ** 2) / 2) for tap in range(-radius, radius + 1)]
    weights = [tap / sum(taps) for tap in taps]
    return _along(_along(patch, weights, -2), weights, -1)


def _along(x: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    length = x.shape[dim] - len(weights) + 1
    total: Tensor | None = None
    for tap, weight in enumerate(weights):
        term = x.narrow(dim, tap, length) * weight
        total = term if total is None else total + term
    assert total is not None
    return total


class Spread(NamedTuple):
    """Of some numbers: how many, their mean, and the mean square about it."""

    numbers: int
    mean: float
    variance: float

    @classmethod
    def of(cls, x: Tensor) -> Spread:
        """Of all numbers of a tensor, in double precision, rounded to what a message holds."""
        wide = x.double()
        mean = torch.tensor(float(wide.mean()), dtype=torch.float32)
        variance = torch.tensor(float(wide.var(correction=0)), dtype=torch.float32)
        return cls(x.numel(), float(mean), float(variance))


def merge(parts: Iterable[Spread]) -> Spread:
    """Of all numbers together, part by part in the order given (Chan, Golub and LeVeque 1979)."""
    count, mean, square = 0, 0.0, 0.0
    for part in parts:
        both = count + part.numbers
        off = part.mean - mean
        square += part.variance * part.numbers + off * off * count * part.numbers / both
        mean += off * part.numbers / both
        count = both
    return Spread(count, mean, square / count)


def renormalise(x: Tensor, own: Spread, wanted: Spread) -> Tensor:
    """`x`, of a canvas whose numbers spread as `own`, brought to the spread `wanted`."""
    scale = math.sqrt(wanted.variance / own.variance)
    return x * scale + (wanted.mean - own.mean * scale)
