"""A finished level becomes the start of the next: cubic interpolation of latents, each cell a fixed sum of 16."""

from __future__ import annotations

import torch
from torch import Tensor

from raytile.plan.upsample import TAPS, Taps


def upsample(patch: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Coarse cells [channels, rows.length, columns.length] to fine ones, by Keys' cubic (1981, a = -1/2).

    Every fine cell is the same sum in the same order whatever patch it is computed from."""
    return _along(_along(patch, rows, 1), columns, 2)


def _along(x: Tensor, taps: Taps, dim: int) -> Tensor:
    index = torch.tensor(taps.cells)
    t = torch.tensor(taps.numerator, dtype=torch.float64) / taps.denominator
    shape = [1, 1, 1]
    shape[dim] = len(taps.cells)
    weights = _keys(t)
    result: Tensor | None = None
    for tap in range(TAPS):
        term = x.index_select(dim, index[:, tap]) * weights[tap].to(torch.float32).view(shape)
        result = term if result is None else result + term
    assert result is not None
    return result


def _keys(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
