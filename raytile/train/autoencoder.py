"""Training of the autoencoder, stage A: both halves together, starting from the PCA of 8x8 patches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.train.state import load_state, pid_file, save_state
from raytile.train.world import World, draw_place, plain_crop

ZOOM_SHARES = (0.4, 0.3, 0.2, 0.1)
SATELLITE_SHARE = 0.6
GAIN_RATIO = 2.0
"""Largest over smallest deviation of latent channels at the start (PCA's own ratio is far larger)."""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Stage A's figures; `steps` fixes the learning-rate curve."""

    steps: int = 3900
    batch: int = 8
    size: int = 128
    rate: float = 1e-3
    last_rate: float = 1e-4
    warm_up: int = 200
    latent_noise: float = 0.1
    exact_from: float = 0.9
    """Share of the steps after which bfloat16 arithmetic gives way to float32."""
    seed: int = 1


def draw_batch(world: World, seed: int, step: int, batch: int, size: int) -> Tensor:
    """Training crops [batch, 3, size, size] in [-1, 1], a function of (seed, step) alone; any of 8 symmetries."""
    rng = np.random.default_rng((seed, step))
    crops = []
    for _ in range(batch):
        style = "satellite" if rng.random() < SATELLITE_SHARE else "relief"
        level = int(rng.choice(len(ZOOM_SHARES), p=ZOOM_SHARES))
        top, left = draw_place(world, rng, level, size)
        crop = plain_crop(world.maps[style][level], top, left, size)
        turned = np.rot90(crop if rng.random() < 0.5 else crop[:, ::-1], int(rng.integers(4)))
        crops.append(np.ascontiguousarray(turned))
    return to_signed(np.stack(crops))


def to_signed(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """uint8 [batch, h, w, 3] to float [batch, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1.0


def patch_basis(world: World, channels: int, seed: int = 0, batches: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of training patches: rows [channels, 192], mean [192] and deviations [channels], largest first."""
    patches = torch.cat(
        [
            F.pixel_unshuffle(draw_batch(world, seed, -1 - i & 0xFFFFFFFF, 8, 128), PATCH).movedim(1, -1).flatten(0, 2)
            for i in range(batches)
        ]
    ).double()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    rows = vectors[:, -channels:].T.flip(0)
    return rows.float(), mean.float(), values[-channels:].flip(0).sqrt().float()


def new_autoencoder(world: World, channels: int = 8) -> LinearStartAutoencoder:
    """An untrained autoencoder: exactly PCA, with latents of mean square 1 and deviations within `GAIN_RATIO`."""
    rows, mean, deviations = patch_basis(world, channels)
    power = math.log(GAIN_RATIO) / math.log(float(deviations[0] / deviations[-1]))
    wanted = deviations**power
    wanted = wanted / wanted.square().mean().sqrt()
    model: LinearStartAutoencoder = LinearStartAutoencoder(latent_channels=channels)
    model.set_linear(rows, mean, wanted / deviations)
    return model


def laplacian_l1(error: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute value of an error's Laplacian pyramid, summed over its levels."""
    total = error.new_zeros(())
    for _ in range(levels):
        low = F.avg_pool2d(error, 2)
        total = total + (error - F.interpolate(low, scale_factor=2.0)).abs().mean()
        error = low
    return total


def rate_at(step: int, recipe: AutoencoderRecipe) -> float:
    """Cosine from `rate` to `last_rate` after a linear warm-up."""
    progress = min(1.0, step / recipe.steps)
    curve = recipe.last_rate + (recipe.rate - recipe.last_rate) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return curve * min(1.0, (step + 1) / recipe.warm_up)


def stage_a_loss(model: LinearStartAutoencoder, x: Tensor, step: int, recipe: AutoencoderRecipe) -> Tensor:
    """L1 + half a Laplacian L1 under latent noise; every fourth step latents must also survive pooling."""
    noise = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    z = model.encode(x)
    y = model.decode(z + recipe.latent_noise * torch.randn(z.shape, generator=noise))
    error = (y - x).float()
    loss = error.abs().mean() + 0.5 * laplacian_l1(error)
    if step % 4 == 0:
        half = model.decode(F.avg_pool2d(z, 2))
        loss = loss + 0.25 * (half - F.avg_pool2d(x, 2)).float().abs().mean()
    return loss


def train_stage_a(
    world: World,
    folder: Path,
    recipe: AutoencoderRecipe,
    seconds: float,
    *,
    model: Callable[[], LinearStartAutoencoder] | None = None,
    clock: Callable[[], float] = time.monotonic,
    save_every: float = 120.0,
    say: Callable[[str], None] = print,
) -> LinearStartAutoencoder:
    """Train until the recipe's steps or the seconds are used up; goes on from `folder` where state is there."""
    saved = load_state(folder / "autoencoder.pt")
    net = LinearStartAutoencoder(**saved["config"]) if saved else (model or (lambda: new_autoencoder(world)))()
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=1e-3)
    step = 0
    if saved:
        net.load_state_dict(saved["model"])
        if "optimizer" in saved:  # a restored model has none
            optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    def save() -> None:
        config = {k: v for k, v in net.config.items() if not k.startswith("_")}
        state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "config": config}
        save_state(folder / "autoencoder.pt", state)

    begin = last = clock()
    with pid_file(folder, "autoencoder"):
        while step < recipe.steps and clock() - begin < seconds:
            x = draw_batch(world, recipe.seed, step, recipe.batch, recipe.size)
            optimizer.param_groups[0]["lr"] = rate_at(step, recipe)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=step < recipe.exact_from * recipe.steps):
                loss = stage_a_loss(net, x, step, recipe)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 100 == 0:
                say(f"autoencoder step {step} loss {loss.item():.4f} after {clock() - begin:.0f} s")
            if clock() - last > save_every:
                save()
                last = clock()
        save()
    return net
