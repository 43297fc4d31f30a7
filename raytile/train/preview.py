"""How latents look without a decoder: the colour of a cell as an affine map of its channels, for previews.

Fitted to the bank's latents and what the released decoder makes of them, so it promises what will come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from raytile.models.base import Module
from raytile.models.preview import PREVIEW, RIM, Colours, fit, write
from raytile.train.bank import Bank

CROPS = 160
"""Crops of the bank that are decoded, evenly spread over it."""

Pairs = Sequence[tuple[Tensor, Tensor]]


def decoded(module: Module, bank: Bank) -> Pairs:
    """`CROPS` crops: latents [channels, h, w] and the pixels [3, ...] that the decoder makes of them."""
    numbers = range(0, len(bank.latents), max(1, len(bank.latents) // CROPS))
    latents = [torch.from_numpy(bank.latents[number]).float() for number in numbers]
    return [(cells, module.decode(cells)) for cells in latents]


def fit_preview(pairs: Pairs) -> tuple[Colours, float, float]:
    """The map by least squares over all crops but each eighth. On these: the share of the variance of cells' colours
    that it explains, and its mean error in levels of 255."""
    colours = fit(pair for number, pair in enumerate(pairs) if number % 8)
    left = miss = spread = 0.0
    count = 0
    for latents, pixels in pairs[::8]:
        means = torch.nn.functional.avg_pool2d(pixels, pixels.shape[1] // latents.shape[1])[:, RIM:-RIM, RIM:-RIM]
        said = torch.tensordot(colours.matrix, latents[:, RIM:-RIM, RIM:-RIM], 1) + colours.bias[:, None, None]
        left += float((said - means).square().sum())
        spread += float((means - means.mean(dim=(1, 2), keepdim=True)).square().sum())
        miss += float((said - means).abs().sum()) * 127.5
        count += means.numel()
    return colours, 1 - left / spread, miss / count


def write_preview(folder: Path, colours: Colours) -> None:
    """Put the map into a model folder."""
    write(folder / PREVIEW, colours)
