"""From latents to colours without a decoder: one affine map a cell, good enough to watch a picture emerge.

Such maps are known from Stable Diffusion ("latent RGB factors"): fitted here by least squares, for any autoencoder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raytile.models.registry import TERRA

if TYPE_CHECKING:
    from raytile.models.base import Module

PREVIEW = "preview.safetensors"
"""Beside a model's parts. It decides no pixel, so the model's digest does not know it."""
SIDE, PICTURES, RIM = 32, 8, 2
"""Cells along a synthetic picture, how many there are, and the cells at its edge that are not learnt from."""


@dataclass(frozen=True)
class Colours:
    """The mean colour of a cell, in [-1, 1], is `matrix` [3, channels] x latents + `bias` [3]."""

    matrix: Tensor
    bias: Tensor

    def of(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents [channels, h, w] as colours uint8 (3, h, w) from 1 to 255."""
        channels, height, width = latents.shape
        mixed = torch.addmm(self.bias[:, None], self.matrix, latents.reshape(channels, -1))
        levels = ((mixed / 2 + 0.5) * 255).round_().nan_to_num_(nan=1.0).clamp_(1, 255)
        return levels.to(torch.uint8).reshape(3, height, width).numpy()


def colours_of(module: Module) -> Colours:
    """The map of a loaded model: from its folder, else from the cache, else fitted here and now (some seconds)."""
    spec = module.spec
    folder = TERRA if spec.kind == "folder" and not spec.path else Path(spec.path or "-")
    home = os.path.expanduser("~")  # "~" itself where nobody knows of a home
    kept = Path(home, ".cache", "raytile", "preview", f"{spec.digest}.safetensors")
    for file in (folder / PREVIEW, kept):
        found = _read(file, spec.channels)
        if found is not None:
            return found
    fitted = fit((module.encode(picture), picture) for picture in synthetic(spec.factor))
    with suppress(OSError):  # a home that cannot be written to: fitted again next time
        if kept.is_absolute():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write(kept, fitted)
    return fitted


@torch.no_grad()
def fit(pairs: Iterable[tuple[Tensor, Tensor]]) -> Colours:
    """Least squares over (latents [channels, h, w], pixels [3, h * factor, w * factor] in [-1, 1]), edges apart."""
    normal: Tensor | None = None
    for latents, pixels in pairs:
        channels, height, width = latents.shape
        cells = latents[:, RIM : height - RIM, RIM : width - RIM].reshape(channels, -1).double()
        means = F.avg_pool2d(pixels, (pixels.shape[1] // height, pixels.shape[2] // width))
        colours = means[:, RIM : height - RIM, RIM : width - RIM].reshape(3, -1).double()
        rows = torch.cat([cells, torch.ones(1, cells.shape[1], dtype=torch.float64), colours])
        normal = rows @ rows.T if normal is None else normal + rows @ rows.T
    assert normal is not None, "a map is fitted to something"
    known, wanted = normal[:-3, :-3].clone(), normal[:-3, -3:]
    known.diagonal().add_(1e-5 * known.diagonal().mean())
    solved = torch.linalg.solve(known, wanted).float()
    return Colours(solved[:-1].T.contiguous(), solved[-1].contiguous())


def write(file: Path, colours: Colours) -> None:
    """Put a map there, whole or not at all."""
    from safetensors.torch import save_file

    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    save_file({"matrix": colours.matrix, "bias": colours.bias}, fresh, metadata={"format": "pt"})
    fresh.chmod(0o644)
    fresh.replace(file)


def synthetic(factor: int) -> Iterable[Tensor]:
    """Always the same pictures [3, h, w] in [-1, 1]: coloured waves of all lengths, patches with edges, some noise."""
    rng, side = np.random.default_rng(0), SIDE * factor
    y, x = np.mgrid[0:side, 0:side] / side
    for _ in range(PICTURES):
        picture = np.broadcast_to(rng.uniform(-0.6, 0.6, (3, 1, 1)), (3, side, side))
        for octave in range(6):
            angle, phase = rng.uniform(0, 2 * math.pi, 2)
            wave = np.sin(2 * math.pi * 1.5 * 2**octave * (x * math.cos(angle) + y * math.sin(angle)) + phase)
            picture = picture + wave * rng.uniform(-0.5, 0.5, (3, 1, 1)) / 1.5**octave
        patch = (x + 0.3 * y > rng.uniform(0.3, 0.9)) & (y - 0.2 * x > rng.uniform(0.0, 0.6))
        picture = np.where(patch, rng.uniform(-0.9, 0.9, (3, 1, 1)), picture)
        picture = picture + 0.05 * rng.standard_normal((3, side, side))
        yield torch.from_numpy(picture.clip(-1, 1).astype(np.float32))


def _read(file: Path, channels: int) -> Colours | None:
    """The map in a file; None if there is none, or none of a model of so many channels."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        return None
    try:
        found = load_file(file)
        matrix, bias = found["matrix"].float(), found["bias"].float()
    except (OSError, SafetensorError, KeyError):
        return None
    return Colours(matrix, bias) if (matrix.shape, bias.shape) == ((3, channels), (3,)) else None
