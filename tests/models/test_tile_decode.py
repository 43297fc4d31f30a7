"""What a decode tile by tile does to the picture: nothing for convolutions alone, something for AutoencoderKL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raytile.geometry.axis import Axis
from raytile.geometry.tiling import Tiling
from raytile.models.base import Module

CELLS, TILE = 64, 16


def even(channels: int) -> Tensor:
    return torch.randn(channels, CELLS, CELLS, generator=torch.Generator().manual_seed(0))


def drifting(channels: int) -> Tensor:
    """Noise that grows brighter and stronger from left to right: tiles differ in their means and variances."""
    across = torch.linspace(0, 1, CELLS)
    return even(channels) * (0.3 + across) + across - 0.5


def decoded_by_tiles(module: Module, x: Tensor) -> Tensor:
    factor, tiling = module.spec.factor, Tiling(Axis(CELLS, TILE, False), Axis(CELLS, TILE, False))
    picture = torch.empty(3, CELLS * factor, CELLS * factor)
    for tile in range(tiling.count):
        core = tiling.core(tile)
        patch, y, x0 = tiling.around(tile, module.spec.decode_halo)
        top, left = core.y0 - y, core.x0 - x0
        pixels = module.decode(x[:, top : top + patch.height, left : left + patch.width])
        kept = pixels[:, y * factor : (y + core.height) * factor, x0 * factor : (x0 + core.width) * factor]
        picture[:, core.y0 * factor : core.y1 * factor, core.x0 * factor : core.x1 * factor] = kept
    return picture


def edge_steps(picture: Tensor, factor: int) -> float:
    """The mean step between columns where tiles meet, over the mean step where other cells meet."""
    steps = (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean((0, 1))[factor - 1 :: factor]
    edge = torch.zeros(len(steps), dtype=torch.bool)
    edge[TILE - 1 :: TILE] = True
    return float(steps[edge].mean() / steps[~edge].mean())


def test_convolutions_alone_decode_by_tiles_as_they_do_whole(terra: Module, toy: Module) -> None:
    for module in (terra, toy):
        x = drifting(module.spec.channels)
        assert (decoded_by_tiles(module, x) - module.decode(x)).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "error", "seam"), [(even, 0.1, 1.02), (drifting, 0.4, 1.4)])
def test_group_norms_over_a_tile_differ_from_those_over_the_whole(
    kind: Callable[[int], Tensor], error: float, seam: float, sd: Module
) -> None:
    """As `ModelSpec.decode_halo` says: little where the picture is even, much where it drifts. The bounds are loose
    ones around what was measured, so that it does not grow unseen."""
    x = kind(sd.spec.channels)
    whole, tiled = sd.decode(x), decoded_by_tiles(sd, x)
    found = float((tiled - whole).abs().mean() / whole.std())
    steps = edge_steps(tiled, sd.spec.factor) / edge_steps(whole, sd.spec.factor)
    print(f"{kind.__name__}: mean error {found:.3f} of the picture's spread, steps at tile edges {steps:.3f} of whole")
    assert 1e-3 < found < error
    assert steps < seam
