"""Whether a land mask is obeyed: pictures painted under masks, and land told from water in them by its colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytile.models.base import Module
from raytile.models.reference import reference
from raytile.train.captions import ZOOM_PHRASES, write_caption
from raytile.train.crops import SIZE, Crop, draw_crop
from raytile.train.world import STYLES, World

Mask = NDArray[np.bool_]
SUB_CELL = 4
"""Pixels along each side of the patches that are judged."""
SEED = 77
"""Crops of this seed are in no bank."""
WANTED = ("mountains and forest", "desert, warm sea", "plains with some forest")


def drawn_masks(world: World) -> dict[str, Mask]:
    """Masks that no map has: a ring, a letter, two banks of a strait, and a real coast upside down."""
    y, x = np.meshgrid(np.arange(SIZE) - SIZE / 2, np.arange(SIZE) - SIZE / 2, indexing="ij")
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    wobble = 5 * np.sin(5 * angle) + 3 * np.sin(11 * angle + 1)
    ring = np.abs(radius - 80 - wobble) < 26
    strait = np.abs(x - 40 * np.sin(y / 35)) > 30
    trunk, bars = np.abs(x + 50) < 20, (np.abs(np.abs(y + 30) - 52) < 18) & (np.abs(x) < 70)
    letter = (trunk & (np.abs(y) < 100)) | (bars & (y < 40))
    rows, columns = world.land[2].shape
    coast = world.land[2][rows // 4 : rows // 4 + SIZE, columns // 4 : columns // 4 + SIZE][::-1, ::-1] > 127
    return {"ring": ring, "letter": letter, "strait": strait, "coast": np.ascontiguousarray(coast)}


def paint_steered(module: Module, prompt: str, mask: Mask | None, seed: int) -> NDArray[np.uint8]:
    """One window [256, 256, 3] under a mask, or without one."""
    spec = module.spec
    noise = torch.randn((spec.channels, spec.window, spec.window), generator=torch.Generator().manual_seed(seed))
    control = None if mask is None else torch.from_numpy(mask.astype(np.float32))[None]
    pixels = reference(module, prompt, noise, control=control)
    return np.asarray(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def steered_sheet(module: Module, masks: Sequence[Mask], zoom: str = "continent") -> NDArray[np.uint8]:
    """A column a mask: the mask, then satellite views and relief maps of what is wanted; the first without any."""
    shown = [np.repeat(np.uint8(255) * mask[..., None], 3, axis=2) for mask in masks]
    rows = [np.concatenate([np.full((SIZE, SIZE, 3), 127, np.uint8), *shown], axis=1)]
    for number, wanted in enumerate(WANTED):
        for look in ("satellite view", "relief map"):
            pictures = [paint_steered(module, f"{look} of {wanted}, {zoom}", mask, number) for mask in (None, *masks)]
            rows.append(np.concatenate(pictures, axis=1))
    return np.concatenate(rows, axis=0)


def patches(pixels: NDArray[np.uint8]) -> Tensor:
    """Mean colours [n, 3] of a picture's patches, in [0, 1]."""
    height, width, colours = pixels.shape
    unit = torch.from_numpy(pixels.astype(np.float32) / 255.0)
    return unit.view(height // SUB_CELL, SUB_CELL, width // SUB_CELL, SUB_CELL, colours).mean((1, 3)).flatten(0, 1)


def patch_land(mask: Mask) -> Tensor:
    """Which patches are land, by the larger part."""
    return patches(np.repeat(np.uint8(255) * mask[..., None], 3, axis=2))[:, 0] > 0.5


def terms(colours: Tensor) -> Tensor:
    """All products of up to three colours: what a judge is linear in."""
    with_one = torch.cat([colours, torch.ones_like(colours[:, :1])], 1)
    pairs = (with_one[:, :, None] * with_one[:, None]).flatten(1)
    return (pairs[:, :, None] * with_one[:, None]).flatten(1).double()


class Judge:
    """Land or water by the colour of a patch: least squares on real crops, one for each style."""

    def __init__(self, crops: Sequence[Crop]) -> None:
        self._weights = {}
        for style in STYLES:
            mine = [crop for crop in crops if crop.sight.style == style]
            known = terms(torch.cat([patches(crop.pixels) for crop in mine]))
            want = torch.cat([patch_land(crop.land) for crop in mine]).double() * 2 - 1
            ridge = 1e-6 * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
            self._weights[style] = torch.linalg.solve(known.T @ known + ridge, known.T @ want)

    def agreement(self, style: str, pixels: NDArray[np.uint8], mask: Mask) -> float:
        """Share of patches in which the picture shows what the mask says."""
        said = terms(patches(pixels)) @ self._weights[style] > 0
        return float((said == patch_land(mask)).float().mean())


def measure_steering(module: Module, world: World, crops: int = 32, taught: int = 400) -> dict[str, float]:
    """Mean agreement with masks: of the real crops themselves (the judge's own ceiling), of pictures painted under
    those crops' masks and captions, of the same without the mask, and of pictures under masks drawn by hand."""
    judge = Judge([draw_crop(world, SEED, number) for number in range(taught)])
    numbers = range(taught, 100 * taught)
    chosen: list[Crop] = []
    for number in numbers:
        crop = draw_crop(world, SEED, number)
        if 0.15 < crop.sight.land < 0.85:
            chosen.append(crop)
        if len(chosen) == crops:
            break
    found: dict[str, list[float]] = {"real": [], "steered": [], "free": [], "drawn": []}
    for seed, crop in enumerate(chosen):
        style, prompt = crop.sight.style, write_caption(crop.sight, np.random.default_rng(seed))
        prompt = f"{'satellite view' if style == STYLES[0] else 'relief map'} of {prompt}"
        found["real"].append(judge.agreement(style, crop.pixels, crop.land))
        for name, mask in (("steered", crop.land), ("free", None)):
            found[name].append(judge.agreement(style, paint_steered(module, prompt, mask, seed), crop.land))
    for mask in drawn_masks(world).values():
        for seed, zoom in enumerate(ZOOM_PHRASES):
            for style, look in zip(STYLES, ("satellite view", "relief map"), strict=True):
                picture = paint_steered(module, f"{look} of {WANTED[seed % 3]}, {zoom}", mask, seed)
                found["drawn"].append(judge.agreement(style, picture, mask))
    return {name: float(np.mean(shares)) for name, shares in found.items()}
