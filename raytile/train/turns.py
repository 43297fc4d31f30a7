"""How latents turn: what a turn of the picture does to the channels of a cell, beside turning the cells.

A cell's channels are patterns of 8 x 8 pixels, most of which have a direction, so latents whose cells alone are turned
show every pattern the wrong way round. One orthogonal matrix a turn mends most of that: fitted to encoded crops and the
same crops turned (Schoenemann 1966), then averaged until the eight multiply as the turns themselves do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytile.geometry.turn import MIRROR, TURNS, compose
from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.models.parts import TURNING
from raytile.train.world import World, held_out

CROP, CROPS, RIM, PATIENCE = 256, 48, 6, 12000
RUGGED = 18.0
"""Standard deviation of a crop's values, at least: flat sea teaches nothing."""
ROUNDS = 12


@torch.no_grad()
def fit_turns(world: World, autoencoder: LinearStartAutoencoder, seed: int = 0) -> Tensor:
    """[8, channels, channels]: latents of a turned picture = matrix of the turn x turned latents, by cell."""
    crops = [crop for maps in world.maps.values() for crop in _crops(maps[0], np.random.default_rng(seed))]
    scale = float(autoencoder.config["scaling_factor"])
    channels = int(autoencoder.config["latent_channels"])
    plain = [autoencoder.encode(crop[None])[0] * scale for crop in crops]
    fitted = []
    for turn in range(TURNS):
        product = torch.zeros(channels, channels, dtype=torch.float64)
        for crop, latents in zip(crops, plain, strict=True):
            there = _inner(autoencoder.encode(_turned(crop, turn)[None])[0] * scale)
            product += there.double() @ _inner(_turned(latents, turn)).double().T
        fitted.append(_orthogonal(product))
    for _ in range(ROUNDS):
        fitted = [
            _orthogonal(torch.stack([fitted[s].T @ fitted[compose(turn, s)] for s in range(TURNS)]).mean(dim=0))
            for turn in range(TURNS)
        ]
    return torch.stack(fitted).float()


def write_turns(folder: Path, matrices: Tensor) -> None:
    """Put the matrices into a model folder."""
    from safetensors.torch import save_file

    file = folder / TURNING
    save_file({"turns": matrices.contiguous()}, file, metadata={"format": "pt"})
    file.chmod(0o644)


def _crops(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], rng: np.random.Generator) -> list[Tensor]:
    """Rugged crops [3, h, w] in [-1, 1] from the longitudes that are trained on."""
    found: list[Tensor] = []
    height, width = picture.shape[:2]
    for _ in range(PATIENCE):
        y, x = int(rng.integers(height - CROP)), int(rng.integers(width - CROP))
        east = (np.array([x, x + CROP]) / width * 360.0 - 180.0).astype(np.float32)
        cut = picture[y : y + CROP, x : x + CROP]
        if not held_out(east).any() and cut.std() >= RUGGED:
            found.append(torch.from_numpy(np.ascontiguousarray(cut)).permute(2, 0, 1).float() / 127.5 - 1)
            if len(found) == CROPS:
                return found
    return found


def _turned(values: Tensor, turn: int) -> Tensor:
    return torch.rot90(values.flip(-1) if turn >= MIRROR else values, turn % 4, (-2, -1))


def _inner(latents: Tensor) -> Tensor:
    """[channels, cells] of the middle, which the crop's own edge does not reach."""
    return latents[:, RIM:-RIM, RIM:-RIM].reshape(len(latents), -1)


def _orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to it."""
    left, _, right = torch.linalg.svd(matrix)
    nearest: Tensor = left @ right
    return nearest
