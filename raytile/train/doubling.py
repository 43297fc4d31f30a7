"""How latents double: an affine map fitted to latents of the same places at two zooms.

A cell's channels are patterns of 8 x 8 pixels, and a pattern drawn twice as large is another pattern, so latents
interpolated as they stand turn every edge into stripes of 8 pixels. Four fine cells follow far better from the 3 x 3
coarse cells around theirs by least squares over the training maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.models.parts import DOUBLING
from raytile.train.world import World, held_out

STRIP = 16
"""Coarse cells a strip of the map is high; with one more above and below it is encoded at a time."""


@torch.no_grad()
def fit_doubling(world: World, autoencoder: LinearStartAutoencoder, finest: int = 1) -> tuple[Tensor, Tensor]:
    """(kernel [2, 2, channels, 3, 3, channels], offset [2, 2, channels]) for scaled latents, by least squares over all
    maps and each pair of zooms from `finest` on, held-out longitudes apart."""
    channels = int(autoencoder.config["latent_channels"])
    width = 9 * channels + 1
    normal = torch.zeros(width, width, dtype=torch.float64)
    right = torch.zeros(width, 4 * channels, dtype=torch.float64)
    for maps in world.maps.values():
        for level in range(finest, len(maps) - 1):
            coarse, fine = (_latents(autoencoder, maps[each]) for each in (level + 1, level))
            rows, columns = coarse.shape[1] - 2, coarse.shape[2] - 2
            near = torch.nn.functional.unfold(coarse[None], 3)[0]
            near = torch.cat((near, torch.ones(1, near.shape[1])))
            inner = fine[:, 2 : 2 + 2 * rows, 2 : 2 + 2 * columns]
            four = inner.reshape(channels, rows, 2, columns, 2).permute(2, 4, 0, 1, 3).reshape(4 * channels, -1)
            east = ((np.arange(columns) + 1.5) / coarse.shape[2] * 360.0 - 180.0).astype(np.float32)
            seen = torch.from_numpy(~held_out(east)).repeat(rows)
            near, four = near[:, seen].double(), four[:, seen].double()
            normal += near @ near.T
            right += near @ four.T
    normal.diagonal().add_(1e-6 * normal.diagonal().mean())
    solved = torch.linalg.solve(normal, right)
    kernel = solved[:-1].view(channels, 3, 3, 2, 2, channels).permute(3, 4, 5, 1, 2, 0)
    return kernel.contiguous().float(), solved[-1].view(2, 2, channels).float()


def write_doubling(folder: Path, kernel: Tensor, offset: Tensor) -> None:
    """Put the map into a model folder."""
    from safetensors.torch import save_file

    file = folder / DOUBLING
    save_file({"kernel": kernel.contiguous(), "offset": offset.contiguous()}, file, metadata={"format": "pt"})
    file.chmod(0o644)


def _latents(autoencoder: LinearStartAutoencoder, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """Scaled latents [channels, rows, columns] of a whole map, encoded in strips that overlap by a cell or more."""
    rows, columns = (size // PATCH for size in picture.shape[:2])
    scale, halo = float(autoencoder.config["scaling_factor"]), 6
    found = []
    for top in range(0, rows, STRIP):
        first, last = max(0, top - halo), min(rows, top + STRIP + halo)
        cut = torch.from_numpy(np.ascontiguousarray(picture[first * PATCH : last * PATCH, : columns * PATCH]))
        x = cut.permute(2, 0, 1)[None].float() / 127.5 - 1
        z = autoencoder.encode(x)[0] * scale
        found.append(z[:, top - first : min(rows, top + STRIP) - first])
    return torch.cat(found, dim=1)
