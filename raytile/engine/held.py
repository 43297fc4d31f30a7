"""Cells that a worker keeps up to date, and how they are cut, sent and put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytile.geometry.box import Box
from raytile.geometry.tiling import Piece
from raytile.geometry.turn import MIRROR, extent, place
from raytile.plan.windows import Seen
from raytile.sampling import Memory


@dataclass
class Held:
    """Cells of one tile: latents [channels, h, w] of `box`, and the sampler's memory.

    `step`: the one they are at the start of. `ref`: the clean latents that an anchored level is drawn towards."""

    box: Box
    x: Tensor
    memory: Memory
    step: int
    ref: Tensor | None = None

    @classmethod
    def of(cls, box: Box, tensors: Sequence[Tensor], step: int, anchored: bool) -> Held:
        """From what `tensors` gave."""
        x, *rest = tensors
        return cls(box, x, tuple(rest[anchored:]), step, rest[0] if anchored else None)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that moves with the cells: latents, reference, memory."""
        return (self.x, *self.memory) if self.ref is None else (self.x, self.ref, *self.memory)

    def cut(self, box: Box, of: int = 0) -> Tensor:
        """A view of the cells of `box`, which lies inside, of `tensors[of]`."""
        top, left = self.box.y0, self.box.x0
        return self.tensors[of][..., box.y0 - top : box.y1 - top, box.x0 - left : box.x1 - left]


def turned(values: Tensor, turn: int, basis: Tensor | None = None) -> Tensor:
    """Cells of the canvas as they lie in a window that sees them under `turn` (see `raytile.geometry.turn`). `basis`:
    for latents, what turns do to their channels (see `Module.turns`)."""
    if turn and basis is not None:
        values = _mixed(values, basis[turn])
    if turn >= MIRROR:
        values = values.flip(-1)
    return torch.rot90(values, turn % 4, (-2, -1)) if turn % 4 else values


def _mixed(values: Tensor, matrix: Tensor) -> Tensor:
    """A matrix applied to the channels of every cell, [channels, h, w]: a sum of products in a fixed order, each an
    operation of its own, so that a cell's bits do not depend on its surroundings."""
    total: Tensor | None = None
    for channel, weights in enumerate(matrix.unbind(1)):
        term = weights[:, None, None] * values[channel]
        total = term if total is None else total + term
    assert total is not None
    return total


def turned_back(values: Tensor, turn: int, basis: Tensor | None = None) -> Tensor:
    """The inverse of `turned`."""
    if turn and basis is not None:
        values = _mixed(values, basis[turn].T)
    values = torch.rot90(values, -turn % 4, (-2, -1)) if turn % 4 else values
    return values.flip(-1) if turn >= MIRROR else values


def within(piece: Piece, box: Box) -> Piece:
    """The part of `piece` that lies in `box`, at its own place in the window."""
    common = piece.box.intersect(box)
    whole = piece.box
    sub = (common.y0 - whole.y0, common.y1 - whole.y0, common.x0 - whole.x0, common.x1 - whole.x0)
    down, right = place(piece.turn, whole.height, whole.width, sub)
    return Piece(piece.tile, common, piece.y + down, piece.x + right, piece.turn)


def part(window: Tensor, piece: Piece, basis: Tensor | None = None) -> Tensor:
    """What a window's tensor [..., h, w] says about the cells of `piece`, as they lie on the canvas."""
    height, width = extent(piece.turn, piece.box.height, piece.box.width)
    return turned_back(window[..., piece.y : piece.y + height, piece.x : piece.x + width], piece.turn, basis)


def paste(window: Tensor, piece: Piece, values: Tensor, basis: Tensor | None = None) -> None:
    """Write `values` of the cells of `piece`, as they lie on the canvas, to their place in a window's tensor."""
    height, width = extent(piece.turn, piece.box.height, piece.box.width)
    window[..., piece.y : piece.y + height, piece.x : piece.x + width] = turned(values, piece.turn, basis)


def gather(
    patch: Seen, held: Mapping[int, Iterable[Held]], channels: int, of: int = 0, basis: Tensor | None = None
) -> Tensor:
    """The cells of `patch` [channels, height, width]; `of` as in `Held.cut`, `basis` as in `turned`. A cell
    that nobody holds is NaN, so no wrong route passes."""
    result = torch.full((channels, patch.height, patch.width), torch.nan)
    for piece in patch.pieces():
        for owner in held[piece.tile]:
            there = within(piece, owner.box)
            if there.box.area:
                paste(result, there, owner.cut(there.box, of), basis)
    return result
