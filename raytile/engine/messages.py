"""Cells and predictions on the wire: one flat float32 array per exchange between two workers.

Pieces follow each other in the order of the route, so nothing but numbers travels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytile.geometry.tiling import Piece

Flat = NDArray[np.float32]


def pack(parts: Iterable[Tensor]) -> Flat:
    """Tensors [channels, h, w] one after the other."""
    return np.concatenate([np.empty(0, dtype=np.float32), *(part.reshape(-1).numpy() for part in parts)])


def unpack(message: Flat, pieces: Iterable[Piece], channels: int) -> Iterator[tuple[Piece, Tensor]]:
    """The pieces of a message and their values [channels, h, w]; raises if the lengths do not agree."""
    at = 0
    for piece in pieces:
        size = piece.box.area * channels
        # Arguments from the object store are read-only: take a copy, torch has no read-only tensors.
        values = torch.from_numpy(message[at : at + size].copy())
        yield piece, values.view(channels, piece.box.height, piece.box.width)
        at += size
    if at != message.size:
        raise ValueError(f"message holds {message.size} numbers where the route says {at}")
