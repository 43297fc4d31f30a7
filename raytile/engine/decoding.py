"""From final latents on the canvas to a tile's pixels: over seams, in the source's colours, blended where asked."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raytile.canvas.layout import RGB
from raytile.engine.held import Held, gather, paste, turned, within
from raytile.engine.held import part as part_of
from raytile.engine.survey import Survey
from raytile.geometry.box import Box
from raytile.geometry.tiling import Piece
from raytile.geometry.turn import extent
from raytile.models.base import Module
from raytile.plan.around import BLEND, Across, Around, across, around, decode_reach
from raytile.plan.plan import Plan
from raytile.plan.windows import Seen

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas

BLUR = (0.0625, 0.25, 0.375, 0.25, 0.0625)
"""Binomial filter over blocks, before source and painting are compared."""


class Decoder:
    """Decodes any tile of `plan` whose latents, and those around it, are on `canvas`: of the finished picture, or of
    another `level` that is done."""

    def __init__(self, plan: Plan, module: Module, canvas: Canvas, level: int | None = None) -> None:
        self._level = len(plan.levels) - 1 if level is None else level
        self.plan, self._module, self._canvas, self._survey = plan, module, canvas, Survey(plan, canvas)
        self._block = 2 ** (len(plan.levels) - 1)
        self._matched = plan.request.match_colour and level is None
        self._halo = decode_reach(plan) if level is None else plan.spec.decode_halo

    def decode(self, tile: int) -> tuple[Tensor, Tensor]:
        """Pixels [3, h, w] of a tile in [-1, 1], as a whole decode would give them within the halo, and its latents."""
        level, factor = self.plan.levels[self._level], self.plan.spec.factor
        core = level.tiling.core(tile)
        latents = torch.zeros(self.plan.spec.channels, core.height, core.width)
        pixels = torch.full((RGB, core.height * factor, core.width * factor), -1.0)
        off = torch.zeros_like(pixels) if self._matched else None
        for part in around(level, core, self._halo):
            patch = self._gathered(part.patch)
            painted = self._module.decode(patch)
            top, left, inner = part.top, part.left, part.box.shift(-core.y0, -core.x0)
            wide = Box(*(edge * factor for edge in inner))
            for onto, what in ((pixels, painted), (off, None if off is None else self._off(part, painted))):
                if onto is not None and what is not None:
                    shown = what[:, top * factor :, left * factor :][:, : wide.height, : wide.width]
                    paste(onto, Piece(tile, wide, wide.y0, wide.x0), shown)
            mine = patch[:, top : top + inner.height, left : left + inner.width]
            paste(latents, Piece(tile, inner, inner.y0, inner.x0), mine)
        for seen in across(level, core, self.plan.spec.decode_halo):
            self._blend(pixels, core, seen)
        return pixels if off is None else pixels + off, latents

    def blended(self, box: Box, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Where only a part is painted: that part of the pixels uint8 [3, h, w] of `box`, and the rest as it was."""
        if not self.plan.partial:
            return levels
        share, before = self._survey.blend(box), self._canvas.read_source(box)
        mixed = np.rint(before + share * (levels.astype(np.float32) - before)).astype(np.uint8)
        return np.where(share > 0, mixed, before)

    def _gathered(self, patch: Seen) -> Tensor:
        """Final latents of a patch, turned as it sees them."""
        held = defaultdict(list)
        for piece in patch.pieces():
            cells = torch.from_numpy(self._read(piece.box))
            held[piece.tile].append(Held(piece.box, cells, (), self.plan.steps))
        return gather(patch, held, self.plan.spec.channels, basis=self._module.turns())

    def _blend(self, pixels: Tensor, core: Box, seen: Across) -> None:
        """Go over, towards a side that meets another turned, to what that other sees: half of each at the side."""
        factor = self.plan.spec.factor
        painted = self._module.decode(self._gathered(seen.patch))
        other = torch.full((RGB, seen.band.height * factor, seen.band.width * factor), torch.nan)
        for piece in seen.patch.pieces():
            inner = within(piece, seen.band)
            if inner.box.area:
                wide = Box(*(edge * factor for edge in inner.box))
                there = Piece(0, wide, inner.y * factor, inner.x * factor, inner.turn)
                place = wide.shift(-seen.band.y0 * factor, -seen.band.x0 * factor)
                other[:, place.y0 : place.y1, place.x0 : place.x1] = part_of(painted, there)
        depth = BLEND * factor
        share = 0.5 * (1 - (torch.arange(depth) + 0.5) / depth)
        deep = seen.band.height if seen.edge in ("top", "bottom") else seen.band.width
        share = share[seen.near * factor : (seen.near + deep) * factor]
        share = share.flip(0) if seen.edge in ("bottom", "right") else share
        share = share[:, None] if seen.edge in ("top", "bottom") else share
        box = seen.band.shift(-core.y0, -core.x0)
        rows = slice(box.y0 * factor, box.y1 * factor)
        columns = slice(box.x0 * factor, box.x1 * factor)
        own = pixels[:, rows, columns]
        pixels[:, rows, columns] = torch.where(other.isnan(), own, own * (1 - share) + other * share)

    def _read(self, box: Box) -> NDArray[np.float32]:
        if self._level == len(self.plan.levels) - 1:
            return self._canvas.read_latents(box)
        return self._canvas.read_level(self._level, box)

    def _off(self, part: Around, painted: Tensor) -> Tensor:
        """What is missing to the colours of the source, smooth: the difference of means over blocks as large as a cell
        of the coarsest level, filtered, and interpolated linearly."""
        side, block = self.plan.spec.factor * self._block, self._block
        means = F.avg_pool2d(painted[None], side, ceil_mode=True, count_include_pad=False)[0]
        asked = torch.zeros_like(means)
        for piece in part.patch.pieces():
            y0, y1, x0, x1 = piece.box
            blocks = Box(y0 // block, -(-y1 // block), x0 // block, -(-x1 // block))
            found = self._canvas.area("source_image", blocks, self.plan.spec.factor)
            height, width = extent(piece.turn, blocks.height, blocks.width)
            rows, columns = slice(piece.y // block, piece.y // block + height), slice(piece.x // block, None)
            asked[:, rows, columns][:, :, :width] = turned(torch.from_numpy(found), piece.turn) * 2 - 1
        line = torch.tensor(BLUR)
        kernel = torch.outer(line, line).expand(RGB, 1, -1, -1)
        off = F.conv2d(F.pad((asked - means)[None], (2, 2, 2, 2), mode="replicate"), kernel, groups=RGB)
        wide = F.interpolate(off, scale_factor=side, mode="bilinear", align_corners=False)[0]
        return wide[:, : painted.shape[1], : painted.shape[2]]
