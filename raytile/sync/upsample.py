"""A finished level becomes the start of the next: cubic interpolation of latents, each cell a fixed sum of 16."""

from __future__ import annotations

import torch
from torch import Tensor

from raytile.plan.upsample import TAPS, Taps


def upsample(patch: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Coarse cells [channels, rows.length, columns.length] to fine ones, by Keys' cubic (1981, a = -1/2).

    Every fine cell is the same sum in the same order whatever patch it is computed from."""
    return _along(_along(patch, rows, 1), columns, 2)


def double(patch: Tensor, rows: Taps, columns: Taps, kernel: Tensor, offset: Tensor) -> Tensor:
    """Coarse cells to fine ones by an affine map of a cell's 3 x 3 neighbourhood to the four in its place: `kernel`
    [2, 2, channels, 3, 3, channels], `offset` [2, 2, channels] (see `Module.doubling`).

    A sum of products in a fixed order, each an operation of its own, so that here too a fine cell's bits do not depend
    on the patch."""
    result = torch.empty(patch.shape[0], len(rows.cells), len(columns.cells))
    for below, these_rows in _halves(rows):
        for right, these_columns in _halves(columns):
            if not (len(these_rows[0]) and len(these_columns[0])):
                continue
            total = offset[below, right][:, None, None].expand(-1, len(these_rows[0]), len(these_columns[0]))
            for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3)):
                near = patch.index_select(1, these_rows[1][:, dy]).index_select(2, these_columns[1][:, dx])
                for channel, weights in enumerate(kernel[below, right, :, dy, dx].unbind(1)):
                    total = total + weights[:, None, None] * near[channel]
            result[:, these_rows[0][:, None], these_columns[0]] = total
    return result


def _halves(taps: Taps) -> tuple[tuple[int, tuple[Tensor, Tensor]], ...]:
    """The fine cells that begin a coarse one and those that end it: (0 or 1, (their numbers, their three cells))."""
    cells, late = torch.tensor(taps.cells), 2 * torch.tensor(taps.numerator) < taps.denominator
    first, second = torch.nonzero(~late)[:, 0], torch.nonzero(late)[:, 0]
    return (0, (first, cells[first, 1:])), (1, (second, cells[second, :3]))


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
