"""The autoencoder's gates: figures over a committed list of held-out crops, each with its limit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.train.autoencoder import to_signed
from raytile.train.world import HELD_OUT, STYLES, World, plain_crop

LIST = Path(__file__).with_name("heldout.json")
SIZES = (256, 128, 64)
"""Crop sizes at zooms 1, 1/2, 1/4 that fit a held-out band of 24 degrees."""


@dataclass(frozen=True)
class Place:
    """One crop of the list."""

    style: str
    level: int
    top: int
    left: int
    size: int


def choose_places(world: World, count: int = 64, seed: int = 20) -> list[Place]:
    """Crops inside the held-out bands, at least 60 % land, between 58 S and 72 N (how the list was made)."""
    rng = np.random.default_rng(seed)
    places: list[Place] = []
    while len(places) < count:
        level = int(rng.choice(3, p=(0.45, 0.35, 0.2)))
        size = SIZES[level]
        rows, columns = world.land[level].shape
        low, high = HELD_OUT[len(places) % 3]
        first, last = ((edge + 180.0) / 360.0 * columns for edge in (low, high))
        left = int(rng.integers(round(first), round(last) - size + 1))
        top = int(rng.integers(round(18 / 180 * rows), round(148 / 180 * rows) - size + 1))
        if plain_crop(world.land[level], top, left, size).mean() >= 0.6 * 255:
            places.append(Place(STYLES[int(rng.random() < 0.4)], level, top, left, size))
    return places


def read_places() -> list[Place]:
    """The committed list."""
    return [Place(**row) for row in json.loads(LIST.read_text())]


def crops_of(world: World, places: list[Place]) -> list[Tensor]:
    """Each place's pixels [1, 3, size, size] in [-1, 1]."""
    return [to_signed(plain_crop(world.maps[p.style][p.level], p.top, p.left, p.size)[None]) for p in places]


def psnr(x: Tensor, y: Tensor) -> float:
    """Decibels over the range 2 of [-1, 1], after clamping."""
    return float(10.0 * torch.log10(4.0 / (y.clamp(-1, 1) - x).square().mean()))


def linear_decode(rows: Tensor, mean: Tensor, x: Tensor) -> Tensor:
    """What is left of x after PCA coding with the given rows."""
    patches = F.pixel_unshuffle(x, PATCH).movedim(1, -1) - mean
    return F.pixel_shuffle((patches @ rows.T @ rows + mean).movedim(-1, 1), PATCH)


def phase_ratio(pictures: list[Tensor]) -> float:
    """Mean gradient across 8-pixel borders, over the mean across all other pixel borders."""
    on = off = 0.0
    on_count = off_count = 0
    for picture in pictures:
        for axis in (2, 3):
            steps = picture.diff(dim=axis).abs().movedim(axis, 0).flatten(1).mean(1)
            border = torch.arange(1, len(steps) + 1) % PATCH == 0
            on, on_count = on + float(steps[border].sum()), on_count + int(border.sum())
            off, off_count = off + float(steps[~border].sum()), off_count + int((~border).sum())
    return (on / on_count) / (off / off_count)


def band_power(pictures: list[Tensor], low: float = 1 / 8, high: float = 1 / 2) -> float:
    """Sum over pictures of the mean power in a radial band, in cycles per pixel (Hann window)."""
    total = 0.0
    for picture in pictures:
        size = picture.shape[-1]
        window = torch.hann_window(size, periodic=False)
        centred = (picture - picture.mean((2, 3), keepdim=True)) * window[:, None] * window
        power = torch.fft.fft2(centred).abs().square().mean((0, 1)) / window.square().sum() ** 2
        frequency = torch.fft.fftfreq(size)
        radius = (frequency[:, None].square() + frequency.square()).sqrt()
        total += float(power[(radius >= low) & (radius < high)].mean())
    return total


@torch.no_grad()
def tile_error(model: LinearStartAutoencoder, z: Tensor, core: int = 8) -> float:
    """Largest difference between decoding whole and decoding cores with their halo."""
    whole, halo = model.decode(z), int(model.config["decode_halo"])
    height, width = z.shape[2:]
    worst = 0.0
    for top in range(0, height, core):
        for left in range(0, width, core):
            y0, x0 = max(0, top - halo), max(0, left - halo)
            part = model.decode(z[:, :, y0 : min(height, top + core + halo), x0 : min(width, left + core + halo)])
            y, x = (top - y0) * PATCH, (left - x0) * PATCH
            mine = part[:, :, y : y + core * PATCH, x : x + core * PATCH]
            theirs = whole[:, :, top * PATCH : (top + core) * PATCH, left * PATCH : (left + core) * PATCH]
            worst = max(worst, float((mine - theirs).abs().max()))
    return worst


@torch.no_grad()
def measure(model: LinearStartAutoencoder, crops: list[Tensor], rows: Tensor, mean: Tensor) -> dict[str, float]:
    """All figures of the gate; dB are means over crops."""
    decoded = [model(x).clamp(-1, 1) for x in crops]
    linear = [linear_decode(rows, mean, x) for x in crops]
    z = torch.cat([model.encode(x) for x in crops if x.shape[-1] == SIZES[0]])
    deviations = z.std((0, 2, 3))
    return {
        "psnr_db": float(np.mean([psnr(x, y) for x, y in zip(crops, decoded, strict=True)])),
        "pca_db": float(np.mean([psnr(x, y) for x, y in zip(crops, linear, strict=True)])),
        "phase_ratio": phase_ratio(decoded),
        "phase_ratio_source": phase_ratio(crops),
        "band_power_ratio": band_power(decoded) / band_power(crops),
        "tile_error": tile_error(model, z[:2]),
        "channel_deviation_ratio": float(deviations.max() / deviations.min()),
        "latent_rms": float(z.square().mean().sqrt()),
    }
