"""Pictures to judge by: a plain one-window sampler, sheets of prompts by seeds, nearest training crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raytile.train.captions import token_ids

PROMPTS = (
    "archipelago in a warm sea",
    "snowy mountains and green valleys",
    "desert with rugged coast",
    "green forest and lakes",
    "ice and cold sea",
    "open ocean",
    "plains with some forest",
    "continents",
)


@dataclass(frozen=True)
class Sampling:
    """How a reference picture is drawn."""

    steps: int = 20
    guidance: float = 2.5
    interval: tuple[float, float] = (0.0, 0.75)
    """Shares of the step index between which guidance applies."""


@dataclass(frozen=True)
class Painter:
    """The parts of a model that painting needs, in float32."""

    unet: Any
    autoencoder: Any
    text: Any
    tokenizer: Any

    @torch.no_grad()
    def states(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states [prompts, tokens, width]."""
        states: Tensor = self.text(token_ids(self.tokenizer, prompts))[0]
        return states

    @torch.no_grad()
    def pixels(self, latents: Tensor) -> NDArray[np.uint8]:
        """uint8 [batch, h, w, 3] of scaled latents."""
        y = self.autoencoder.decode(latents / float(self.autoencoder.config["scaling_factor"]))
        return np.asarray(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


@torch.no_grad()
def paint(
    painter: Painter,
    prompts: Sequence[str],
    noise: Tensor,
    how: Sampling = Sampling(),
    coarse: Tensor | None = None,
    renoise: float = 0.65,
    shift_seed: int | None = None,
) -> Tensor:
    """Scaled latents by plain Euler steps of the flow, one prompt a row of `noise` [rows, channels, h, w].

    With `coarse` latents of the same shape only the last `renoise` share of the steps is painted over them.
    With `shift_seed` the picture is larger than a window: it is cut into 32x32 windows whose grid is rolled
    by a new amount every step (a torus), so that no edge stays in place.
    """
    states, empty = painter.states(prompts), painter.states([""] * len(prompts))
    times = torch.linspace(1.0, 0.0, how.steps + 1).tolist()
    first = 0 if coarse is None else how.steps - max(1, int(how.steps * renoise))
    x = noise if coarse is None else (1 - times[first]) * coarse + times[first] * noise
    rng = np.random.default_rng(shift_seed)
    for i in range(first, how.steps):
        guided = how.interval[0] <= i / how.steps < how.interval[1] and how.guidance != 1.0
        roll = (0, 0) if shift_seed is None else (int(rng.integers(32)), int(rng.integers(32)))
        windows, tall, wide = to_windows(x.roll(roll, (2, 3)))
        each = len(windows) // len(x)
        rows = states.repeat_interleave(each, 0)
        t = torch.full((len(windows),), 1000.0 * times[i])
        velocity = run(painter.unet, windows, t, rows)
        if guided:
            plain = run(painter.unet, windows, t, empty.repeat_interleave(each, 0))
            velocity = plain + how.guidance * (velocity - plain)
        x = x + (times[i + 1] - times[i]) * from_windows(velocity, tall, wide).roll((-roll[0], -roll[1]), (2, 3))
    return x


def run(unet: Any, x: Tensor, t: Tensor, states: Tensor, batch: int = 8) -> Tensor:
    """The network in batches, without a mask."""
    x = torch.cat([x, x.new_zeros(len(x), unet.config.in_channels - x.shape[1], *x.shape[2:])], 1)
    parts = range(0, len(x), batch)
    return torch.cat(
        [unet(x[i : i + batch], t[i : i + batch], encoder_hidden_states=states[i : i + batch]).sample for i in parts]
    )


def to_windows(x: Tensor, size: int = 32) -> tuple[Tensor, int, int]:
    """[rows, c, tall * 32, wide * 32] to [rows * tall * wide, c, 32, 32]."""
    rows, channels, height, width = x.shape
    tall, wide = height // size, width // size
    cut = x.view(rows, channels, tall, size, wide, size).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, channels, size, size), tall, wide


def from_windows(windows: Tensor, tall: int, wide: int) -> Tensor:
    """The inverse of `to_windows`."""
    _, channels, size, _ = windows.shape
    grid = windows.view(-1, tall, wide, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, tall * size, wide * size)


def cascade(painter: Painter, prompt: str, zooms: Sequence[str], tall: int, wide: int, seed: int) -> Tensor:
    """A torus of tall x wide windows at the first zoom, doubled and repainted at each further one."""
    x: Tensor | None = None
    for level, zoom in enumerate(zooms):
        size = (tall * 32 << level, wide * 32 << level)
        noise = torch.randn((1, 8, *size), generator=torch.Generator().manual_seed(seed + level))
        coarse = None if x is None else F.interpolate(x, size=size, mode="bicubic", align_corners=False)
        x = paint(painter, [f"{prompt}, {zoom}"], noise, coarse=coarse, shift_seed=seed + level)
    assert x is not None
    return x


def make_sheet(painter: Painter, prompts: Sequence[str], seeds: int, how: Sampling = Sampling()) -> NDArray[np.uint8]:
    """One row of pictures a prompt, one column a seed; the same noise down a column."""
    columns = [torch.randn((1, 8, 32, 32), generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    rows = []
    for prompt in prompts:
        latents = paint(painter, [prompt] * seeds, torch.cat(columns), how)
        rows.append(np.concatenate(list(painter.pixels(latents)), axis=1))
    return np.concatenate(rows, axis=0)


def save_picture(file: Path, pixels: NDArray[np.uint8], shrink: int = 1, quality: int = 85) -> None:
    """Write a picture (format by suffix), shrunk by a whole factor."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if shrink > 1:
        picture = picture.reduce(shrink)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=quality)
