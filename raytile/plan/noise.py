"""Noise keyed by canvas position: the same cell gets the same numbers whoever draws them (law 2).

A counter-based generator (Philox 4x64, Salmon et al. 2011) is keyed by seed, level and purpose, and set to the counter
of each row's first cell; two of its 64-bit words make two normal numbers (Box and Muller 1958)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.box import Box


def key(seed: int, level: int, purpose: str, step: int = 0) -> int:
    """128 bits for one field of noise over a whole level."""
    text = f"raytile noise 1|{seed}|{level}|{purpose}|{step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def normal(key: int, box: Box, channels: int) -> NDArray[np.float32]:
    """Standard normal numbers [channels, box.height, box.width] of the cells in `box` (canvas coordinates)."""
    blocks = -(-channels // 4)
    words = np.empty((box.height, box.width * blocks * 4), dtype=np.uint64)
    for row in range(box.height):
        counter = np.array([box.x0 * blocks, box.y0 + row, 0, 0], dtype=np.uint64)
        words[row] = np.random.Philox(key=key, counter=counter).random_raw(words.shape[1])
    # 53 bits each; the first of a pair in (0, 1] so that its logarithm exists.
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    pairs = unit.reshape(box.height, box.width, blocks * 2, 2)
    radius = np.sqrt(-2.0 * np.log(1.0 - pairs[..., 0]))
    angle = 2.0 * np.pi * pairs[..., 1]
    both = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    cells = both.reshape(box.height, box.width, blocks * 4)[..., :channels]
    return np.ascontiguousarray(cells.transpose(2, 0, 1), dtype=np.float32)
