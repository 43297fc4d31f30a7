"""Laws of the autoencoder: it starts at PCA, is local, and its gates measure what they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raytile.models.autoencoder import LinearStartAutoencoder, decode_halo
from raytile.train.gates import band_power, linear_decode, phase_ratio, psnr, tile_error


def linear_code(channels: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(192, channels, generator=generator)).Q.T
    return basis, 0.1 * torch.randn(192, generator=generator), torch.linspace(0.5, 2.0, channels)


def awake(model: LinearStartAutoencoder) -> LinearStartAutoencoder:
    """The same nets with weights that are not zero anywhere."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def test_an_untrained_autoencoder_is_the_linear_code() -> None:
    basis, mean, gain = linear_code()
    model = LinearStartAutoencoder()
    model.set_linear(basis, mean, gain)
    x = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model(x), linear_decode(basis, mean, x), atol=2e-5, rtol=0)


def test_a_crop_with_its_halo_decodes_like_the_whole_and_with_less_does_not() -> None:
    model = awake(LinearStartAutoencoder(width=16, fine_width=8)).double()
    z = torch.randn(1, 8, 40, 32, generator=torch.Generator().manual_seed(3)).double()
    assert tile_error(model, z) < 1e-13
    model.register_to_config(decode_halo=model.config["decode_halo"] - 1)
    assert tile_error(model, z) > 1e-12


@pytest.mark.parametrize(("blocks", "fine"), [(3, 2), (1, 1), (2, 0)])
def test_decode_halo_is_the_receptive_field(blocks: int, fine: int) -> None:
    model = awake(LinearStartAutoencoder(width=8, fine_width=8, decoder_blocks=blocks, fine_blocks=fine))
    halo = decode_halo(blocks, fine)
    z = torch.zeros(1, 8, 1, 2 * halo + 5, requires_grad=True)
    middle = halo + 2
    model.decode(z)[..., 8 * middle : 8 * middle + 8].square().sum().backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    reached = z.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (int(reached.min()), int(reached.max())) == (middle - halo, middle + halo)


def test_default_config_states_its_own_halo() -> None:
    assert LinearStartAutoencoder().config["decode_halo"] == decode_halo(3, 2)


def test_phase_ratio_sees_a_grid_and_only_a_grid() -> None:
    smooth = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))
    assert phase_ratio([smooth]) == pytest.approx(1.0, abs=0.05)
    blocks = torch.arange(16).repeat_interleave(8).float().expand(1, 3, 128, 128) / 2
    assert phase_ratio([smooth + blocks]) > 1.05


def test_band_power_falls_with_blur_and_psnr_with_error() -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    assert band_power([blurred]) < 0.2 * band_power([x])
    assert psnr(x, 0.99 * x) > psnr(x, 0.9 * x) > psnr(x, blurred)
