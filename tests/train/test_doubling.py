"""How latents double: the fitted map beats interpolation, goes into a folder, and decides what a folder is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from raytile.errors import InvalidModel
from raytile.geometry.axis import Axis
from raytile.models import registry
from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.plan.upsample import taps
from raytile.sync.upsample import double, upsample
from raytile.train.doubling import fit_doubling, write_doubling
from raytile.train.world import World
from tests.models.make_tiny import tiny_terra


def smooth_world(side: int = 256) -> World:
    """A map of soft blobs at three zooms, with a linear code of low frequencies to read it by."""
    noise = torch.randn(1, 3, side // 32, side // 32, generator=torch.Generator().manual_seed(0))
    picture = F.interpolate(noise, size=(side, side), mode="bicubic")[0].tanh()
    levels = [((picture + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()]
    for _ in range(2):
        half = F.avg_pool2d(torch.from_numpy(levels[-1]).permute(2, 0, 1)[None].float(), 2)[0]
        levels.append(half.round().to(torch.uint8).permute(1, 2, 0).numpy())
    return World({"satellite": tuple(levels)}, (), levels[0][..., 0])


def linear_code(channels: int = 6) -> LinearStartAutoencoder:
    """Means and slopes of a patch's colours: nothing learned."""
    model = LinearStartAutoencoder(latent_channels=channels, width=8, encoder_blocks=0, decoder_blocks=0, fine_width=4)
    ramp = torch.linspace(-1, 1, 8)
    patterns = [torch.ones(8, 8), ramp[:, None].expand(8, 8)]
    basis = torch.zeros(channels, 3, 8, 8)
    for number in range(channels):
        basis[number, number % 3] = patterns[number // 3]
    flat = basis.reshape(channels, -1)
    flat = flat / flat.norm(dim=1, keepdim=True)
    model.set_linear(flat, torch.zeros(192), torch.ones(channels))
    return model.eval()


@torch.no_grad()
def test_the_fitted_map_beats_interpolating_latents() -> None:
    world, model = smooth_world(), linear_code()
    kernel, offset = fit_doubling(world, model, finest=0)
    fine, coarse = (
        model.encode(torch.from_numpy(world.maps["satellite"][level]).permute(2, 0, 1)[None].float() / 127.5 - 1)[0]
        for level in (0, 1)
    )
    axis = taps(Axis(16, 64, wrap=False), Axis(32, 64, wrap=False), 0, 32)
    errors = [
        (made - fine)[:, 2:-2, 2:-2].pow(2).mean().sqrt().item()
        for made in (double(coarse, axis, axis, kernel, offset), upsample(coarse, axis, axis))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_a_folder_that_knows_how_its_latents_double_is_another_model(tmp_path: Path) -> None:
    folder = tiny_terra(tmp_path / "model")
    plain = registry.resolve(str(folder))
    assert registry.load(plain).doubling() is None
    channels = plain.channels
    kernel, offset = torch.randn(2, 2, channels, 3, 3, channels), torch.randn(2, 2, channels)
    write_doubling(folder, kernel, offset)
    knowing = registry.resolve(str(folder))
    assert knowing.digest != plain.digest
    found = registry.load(knowing).doubling()
    assert found is not None
    assert torch.equal(found[0], kernel)
    assert torch.equal(found[1], offset)
    write_doubling(folder, kernel[..., :1], offset)
    with pytest.raises(InvalidModel, match="fit it anew"):
        registry.load(registry.resolve(str(folder)))
    (folder / "doubling.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidModel, match=r"doubling\.safetensors"):
        registry.resolve(str(folder))
