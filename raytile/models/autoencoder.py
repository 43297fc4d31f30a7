"""The built-in autoencoder: an exact linear (PCA) code plus small local convolution nets on top of it."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 8
"""Pixels a latent cell covers along each axis."""

FINE = 4
"""Sub-cells a latent cell has along each axis in the decoder's fine stage (two pixels each)."""


def _silence(conv: nn.Conv2d) -> None:
    for weight in conv.parameters():
        nn.init.zeros_(weight)


class _Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))): no norm, so that an output depends on its neighbourhood alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _silence(self.second)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.silu(self.first(F.silu(x))))
        return x + change


class LinearStartAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """z = W x + f(x), y = W' z + g(z), with f and g starting at zero and W, W' at a linear code.

    Pixels are [batch, 3, 8h, 8w] in [-1, 1]; latents are [batch, latent_channels, h, w]. As everything is a
    convolution, a crop of latents with `decode_halo` cells around it (cut short only where the picture truly
    ends) decodes to the very pixels of the whole. A diffusion model sees latents times `scaling_factor`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 8,
        width: int = 128,
        encoder_blocks: int = 2,
        decoder_blocks: int = 3,
        fine_width: int = 32,
        fine_blocks: int = 2,
        scaling_factor: float = 1.0,  # noqa: ARG002 - read from the config
        decode_halo: int = 9,  # noqa: ARG002
    ) -> None:
        super().__init__()
        pixels = 3 * PATCH * PATCH
        self.linear_in = nn.Conv2d(pixels, latent_channels, 1)
        self.linear_out = nn.Conv2d(latent_channels, pixels, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(pixels, width, 1),
            *(_Residual(width) for _ in range(encoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(_Residual(width) for _ in range(decoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(width, fine_width * FINE * FINE, 1),
            nn.PixelShuffle(FINE),
            *(_Residual(fine_width) for _ in range(fine_blocks)),
            nn.SiLU(),
            nn.Conv2d(fine_width, 3 * (PATCH // FINE) ** 2, 3, padding=1),
            nn.PixelShuffle(PATCH // FINE),
        )
        for last in (self.encoder[-1], self.decoder[-2]):
            assert isinstance(last, nn.Conv2d)
            _silence(last)

    def encode(self, x: Tensor) -> Tensor:
        """Pixels in [-1, 1] to latents, unscaled."""
        patches = F.pixel_unshuffle(x, PATCH)
        latents: Tensor = self.linear_in(patches) + self.encoder(patches)
        return latents

    def decode(self, z: Tensor) -> Tensor:
        """Unscaled latents to pixels, nominally in [-1, 1], not clamped."""
        pixels: Tensor = F.pixel_shuffle(self.linear_out(z), PATCH) + self.decoder(z)
        return pixels

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    @torch.no_grad()
    def set_linear(self, basis: Tensor, mean: Tensor, gain: Tensor) -> None:
        """Start at a linear code: orthonormal rows `basis` [channels, 192], patch `mean` [192], channel `gain`.

        Patches are in `pixel_unshuffle` order; z = gain * basis (x - mean) and y = basis' (z / gain) + mean.
        """
        scaled = gain[:, None] * basis
        assert self.linear_in.bias is not None
        assert self.linear_out.bias is not None
        self.linear_in.weight.copy_(scaled[:, :, None, None])
        self.linear_in.bias.copy_(-(scaled @ mean))
        self.linear_out.weight.copy_((basis / gain[:, None]).T[:, :, None, None])
        self.linear_out.bias.copy_(mean)


def decode_halo(decoder_blocks: int, fine_blocks: int) -> int:
    """Latent cells on each side that one decoded cell depends on: the receptive field of `decode`."""
    fine_reach = 2 * fine_blocks + 1
    return 1 + 2 * decoder_blocks + -(-fine_reach // FINE)
