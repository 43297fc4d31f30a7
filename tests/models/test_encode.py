"""Pixels to latents: tile by tile as whole, and back again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from raytile.geometry.axis import Axis
from raytile.geometry.tiling import Tiling
from raytile.models.base import Module
from raytile.models.registry import load, resolve

CELLS, TILE = 24, 8


def picture(factor: int, cells: int = CELLS) -> Tensor:
    """Smooth colours [3, h, w] in [-1, 1] with a little grain."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 4, 4, generator=generator) * 1.6 - 0.8
    smooth = F.interpolate(coarse, size=(cells * factor, cells * factor), mode="bicubic", align_corners=True)[0]
    return smooth + 0.05 * torch.randn(smooth.shape, generator=generator)


def encoded_by_tiles(module: Module, pixels: Tensor) -> Tensor:
    factor, cells = module.spec.factor, pixels.shape[1] // module.spec.factor
    tiling = Tiling(Axis(cells, TILE, False), Axis(cells, TILE, False))
    latents = torch.empty(module.spec.channels, cells, cells)
    for tile in range(tiling.count):
        core = tiling.core(tile)
        patch, y, x = tiling.around(tile, module.spec.encode_halo)
        rows = slice((core.y0 - y) * factor, (core.y0 - y + patch.height) * factor)
        columns = slice((core.x0 - x) * factor, (core.x0 - x + patch.width) * factor)
        part = module.encode(pixels[:, rows, columns])
        latents[:, core.y0 : core.y1, core.x0 : core.x1] = part[:, y : y + core.height, x : x + core.width]
    return latents


@pytest.mark.parametrize("name", ["toy", "terra"])
def test_tiles_encode_as_the_whole_does(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    pixels = picture(module.spec.factor)
    assert (encoded_by_tiles(module, pixels) - module.encode(pixels)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["toy", "terra"])
def test_the_halo_is_no_larger_than_needed(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    factor, halo = module.spec.factor, module.spec.encode_halo
    pixels = torch.zeros(3, 17 * factor, 17 * factor)
    blank = module.encode(pixels)
    pixels[:, 8 * factor : 9 * factor, 8 * factor : 9 * factor] = 1
    touched = ((module.encode(pixels) - blank).abs().amax(0) > 0).nonzero()
    assert touched.min() == 8 - halo
    assert touched.max() == 8 + halo


@pytest.mark.parametrize("name", ["toy", "sd", "terra", "land"])
def test_latents_are_of_the_grid_and_never_drawn(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    pixels = picture(module.spec.factor)[:, : 8 * module.spec.factor]
    latents = module.encode(pixels)
    assert latents.shape == (module.spec.channels, 8, CELLS)
    assert latents.dtype == torch.float32
    assert torch.equal(latents, module.encode(pixels))
    assert not latents.requires_grad


@pytest.mark.parametrize(("name", "error"), [("toy", 0.12), ("terra", 0.03)])
def test_decoded_again_it_is_the_picture(name: str, error: float) -> None:
    """By 2 x 2 cells, of a picture whose spread is 0.5: toy has colours alone. The shipped weights, not random ones."""
    module = load(resolve(name))
    pixels = picture(module.spec.factor)
    again = module.decode(module.encode(pixels))
    found = F.avg_pool2d(again - pixels, 2 * module.spec.factor)[:, 1:-1, 1:-1]
    assert found.square().mean().sqrt() < error


def test_scaling_and_shift_are_those_of_decode(sd: Module) -> None:
    """Against the autoencoder itself: the mode, less the shift, times the scale."""
    vae = sd._vae  # type: ignore[attr-defined]
    pixels = picture(sd.spec.factor)
    with torch.no_grad():
        mode = vae.encode(pixels[None]).latent_dist.mode()[0]
    assert torch.allclose(sd.encode(pixels), mode * vae.config.scaling_factor, atol=1e-6)


def test_group_norms_over_a_tile_differ_from_those_over_the_whole(sd: Module) -> None:
    """As when decoding (see `ModelSpec.decode_halo`): the bounds keep what was measured from growing unseen."""
    pixels = picture(sd.spec.factor, cells=64)
    whole, tiled = sd.encode(pixels), encoded_by_tiles(sd, pixels)
    found = float((tiled - whole).abs().mean() / whole.std())
    print(f"mean error {found:.3f} of the latents' spread")
    assert 1e-3 < found < 0.4
