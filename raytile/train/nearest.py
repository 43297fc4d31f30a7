"""Whether samples copy the training data: their nearest crops of the bank, by colour at one value a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.train.bank import Bank

CORE = 16
"""Cells of the middle of a sample that are looked for, at every offset, in every crop."""


@dataclass(frozen=True)
class Match:
    """Where a sample's middle is found best, and the root mean square difference there (pixels in [-1, 1])."""

    crop: int
    top: int
    left: int
    transposed: bool
    distance: float


@torch.no_grad()
def cell_colours(model: LinearStartAutoencoder, latents: Tensor) -> Tensor:
    """Mean colour [batch, 3, h, w] of each cell of scaled latents."""
    return F.avg_pool2d(model.decode(latents / float(model.config["scaling_factor"])), PATCH)


@torch.no_grad()
def bank_colours(model: LinearStartAutoencoder, bank: Bank, batch: int = 50) -> Tensor:
    """Mean colours of the bank's cells by the linear part of the decoder alone, which is quick."""
    parts = []
    for i in range(0, len(bank.latents), batch):
        z = torch.from_numpy(bank.latents[i : i + batch].astype(np.float32)) / float(model.config["scaling_factor"])
        parts.append(model.linear_out(z).unflatten(1, (3, PATCH * PATCH)).mean(2))
    return torch.cat(parts)


@torch.no_grad()
def nearest(samples: Tensor, crops: Tensor, batch: int = 100) -> list[Match]:
    """Best match of each sample [n, 3, 32, 32] among crops [m, 3, 32, 32], over offsets and transposition."""
    low = (samples.shape[-1] - CORE) // 2
    middle = samples[:, :, low : low + CORE, low : low + CORE]
    best = [Match(-1, 0, 0, False, float("inf"))] * len(samples)
    for transposed in (False, True):
        kernel = middle.transpose(2, 3).contiguous() if transposed else middle
        own = kernel.square().sum((1, 2, 3))
        for first in range(0, len(crops), batch):
            part = crops[first : first + batch]
            energy = F.conv2d(part.square(), torch.ones(1, 3, CORE, CORE))
            error = own[None, :, None, None] + energy - 2 * F.conv2d(part, kernel)
            wide = error.shape[-1]
            values, places = error.transpose(0, 1).flatten(1).min(1)
            for i, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                distance = (max(0.0, value) / middle[i].numel()) ** 0.5
                if distance < best[i].distance:
                    crop, offset = divmod(place, wide * wide)
                    best[i] = Match(first + crop, offset // wide, offset % wide, transposed, distance)
    return best


@torch.no_grad()
def nearest_sheet(
    model: LinearStartAutoencoder, bank: Bank, latents: Tensor, columns: int = 8
) -> tuple[NDArray[np.uint8], list[Match]]:
    """Each sample beside its nearest crop (cut and turned to match), at half size, and the matches."""
    matches = nearest(cell_colours(model, latents), bank_colours(model, bank))
    scale = float(model.config["scaling_factor"])
    pairs: list[Any] = []
    for sample, match in zip(latents, matches, strict=True):
        crop = torch.from_numpy(bank.latents[match.crop].astype(np.float32))
        cut = crop[:, match.top : match.top + CORE, match.left : match.left + CORE]
        low = (sample.shape[-1] - CORE) // 2
        both = torch.stack([sample[:, low : low + CORE, low : low + CORE], cut])
        mine, theirs = F.avg_pool2d(model.decode(both / scale).clamp(-1, 1), 2)
        # A cell's channels are patterns of pixels: only pixels can be transposed.
        pair = torch.cat([mine, theirs.transpose(1, 2) if match.transposed else theirs], 2)
        pairs.append(((pair + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    rows = [np.concatenate(pairs[i : i + columns], 1) for i in range(0, len(pairs) - len(pairs) % columns, columns)]
    return np.concatenate(rows, 0), matches
