"""The denoiser's bank: latents of augmented crops, made once by a frozen encoder and kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from raytile.errors import InvalidRequest
from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.train.crops import Crop, Sight, draw_crop
from raytile.train.world import World

MARK = "-land-"
"""Part of a shard's name; shards of banks without land masks had none of it."""


@dataclass(frozen=True)
class Bank:
    """Latents [crops, channels, 32, 32] of mean square about 1, trainable cells [crops, 32, 32], what each shows, and
    where land is [crops, 256, 256 / 8]: bits of a row of pixels, the first in the highest bit."""

    latents: NDArray[np.float16]
    trainable: NDArray[np.bool_]
    land: NDArray[np.uint8]
    sights: list[Sight]
    encoder: str
    """Digest of the encoder that made the latents."""


def encoder_digest(model: LinearStartAutoencoder) -> str:
    """A name for the latents' meaning: it changes with any weight of the encoder and with the scaling."""
    digest = hashlib.sha256(repr(float(model.config["scaling_factor"])).encode())
    for half in (model.linear_in, model.encoder):
        for weight in half.state_dict().values():
            digest.update(weight.float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_crops(model: LinearStartAutoencoder, crops: list[NDArray[np.uint8]]) -> NDArray[np.float16]:
    """Scaled latents of crops [h, w, 3]."""
    x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return np.asarray((model.encode(x).float() * float(model.config["scaling_factor"])).numpy(), dtype=np.float16)


def grow_bank(
    world: World,
    model: LinearStartAutoencoder,
    folder: Path,
    count: int,
    *,
    seed: int = 1,
    shard: int = 500,
    crop: Callable[[World, int, int], Crop] = draw_crop,
) -> None:
    """Make the bank's shards up to `count` crops that are not there yet; a crop depends on (seed, number) alone."""
    folder.mkdir(parents=True, exist_ok=True)
    name = encoder_digest(model)
    for first in range(0, count, shard):
        file = folder / f"{name}{MARK}{first:06d}.npz"
        if file.exists():
            continue
        crops = [crop(world, seed, first + i) for i in range(shard)]
        latents = [encode_crops(model, [c.pixels for c in crops[i : i + 10]]) for i in range(0, shard, 10)]
        sights = json.dumps([dataclasses.asdict(c.sight) for c in crops])
        part = file.with_suffix(".part.npz")
        trainable, land = np.stack([c.trainable for c in crops]), np.packbits([c.land for c in crops], axis=2)
        np.savez(part, latents=np.concatenate(latents), trainable=trainable, land=land, sights=sights)
        os.replace(part, file)


def load_bank(folder: Path, encoder: str) -> Bank:
    """All shards that the given encoder made."""
    shards = [np.load(file) for file in sorted(folder.glob(f"{encoder}{MARK}??????.npz"))]
    if not shards:
        raise InvalidRequest(f"no bank of encoder {encoder} in {folder}: grow one first")
    sights = [Sight(**row) for part in shards for row in json.loads(str(part["sights"]))]
    latents = np.concatenate([part["latents"] for part in shards])
    trainable, land = (np.concatenate([part[key] for part in shards]) for key in ("trainable", "land"))
    return Bank(latents, trainable, land, sights, encoder)
