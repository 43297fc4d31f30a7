"""What holds where on the canvas: how much of each cell a region has, what is painted, what steers the model.

Every value belongs to its cell alone, whichever window or tile asks (law 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytile.engine.held import turned
from raytile.geometry.box import Box
from raytile.geometry.tiling import Piece
from raytile.geometry.turn import extent
from raytile.plan import area
from raytile.plan.plan import Plan
from raytile.plan.scene import Shape
from raytile.plan.voices import shares
from raytile.plan.windows import Seen

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas

Floats = NDArray[np.float64]


class Survey:
    """Looks at shapes in the request of `plan`, and at the pictures that `canvas` took in."""

    def __init__(self, plan: Plan, canvas: Canvas | None) -> None:
        self.plan, self._canvas = plan, canvas
        drawn = [shape for shape in (*plan.request.regions, *plan.request.repaint) if shape.mask is not None]
        self._masks = {id(shape): f"mask_{number}" for number, shape in enumerate(drawn)}

    def shares(self, level: int, patch: Seen, heard: NDArray[np.bool_]) -> dict[int, Tensor]:
        """How much of each cell [h, w] the voices have that are `heard`, by number; they sum to 1."""
        regions = [(number, region) for number, region in enumerate(self.plan.request.regions, 1) if heard[number]]
        if not regions:
            return {0: torch.ones(patch.height, patch.width)}
        covers = [self._over(patch, partial(self._cover, level, region)) for _, region in regions]
        parts = shares([cover.numpy() for cover in covers], [region.weight for _, region in regions])
        found = zip((0, *(number for number, _ in regions)), parts, strict=True)
        return {number: torch.from_numpy(values) for number, values in found}

    def inside(self, level: int, box: Box, shape: Shape) -> Tensor:
        """Which cells [h, w] of `box` the shape has more than half of."""
        return torch.from_numpy(self._cover(level, shape, Piece(0, box, 0, 0)) > 0.5)

    def free(self, level: int, box: Box) -> Tensor:
        """Which cells [h, w] of `box` are painted, where the plan is `partial`; the others keep what they have."""
        y, x = self._middles(level, box)
        if self.plan.request.place is not None:
            y0, y1, x0, x1 = self.plan.kept
            kept = (y[:, None] > y0) & (y[:, None] < y1) & (x > x0) & (x < x1)
            return torch.from_numpy(~kept)
        found = np.zeros((box.height, box.width), dtype=bool)
        for shape in self.plan.request.repaint:
            if shape.mask is not None:
                found |= self._looked_up(level, box, self._masks[id(shape)], 1)[0] > 0
            else:
                found |= area.near(shape, y[:, None], x, self.plan.spec.factor, self.plan.period)
        return torch.from_numpy(found)

    def blend(self, pixels: Box) -> NDArray[np.float32]:
        """How much of each pixel [h, w] of `pixels` is painted anew, in [0, 1], where the plan is `partial`."""
        y: Floats = np.arange(pixels.y0, pixels.y1, dtype=np.float64) + 0.5
        x: Floats = np.arange(pixels.x0, pixels.x1, dtype=np.float64) + 0.5
        if self.plan.request.place is not None:
            y0, y1, x0, x1 = self.plan.kept
            kept = (y[:, None] > y0) & (y[:, None] < y1) & (x > x0) & (x < x1)
            return (~kept).astype(np.float32)
        found = np.zeros((pixels.height, pixels.width))
        for shape in self.plan.request.repaint:
            if shape.mask is None:
                cover = area.cover(shape, y[:, None], x, self.plan.period, inward=True)
            else:
                cover = self._mask_inward(shape, pixels)
            found = np.maximum(found, cover)
        return found.astype(np.float32)

    def _mask_inward(self, shape: Shape, pixels: Box) -> Floats:
        """A mask whose edge fades inside it: how far the mean over a square about each pixel is above a half."""
        assert self._canvas is not None
        name, reach = self._masks[id(shape)], int(shape.feather)
        request = self.plan.request
        wide = Box(
            max(0, pixels.y0 - reach),
            min(request.height, pixels.y1 + reach),
            max(0, pixels.x0 - reach),
            min(request.width, pixels.x1 + reach),
        )
        levels = np.rint(self._canvas.area(name, wide, 1)[0] * 255).astype(np.int64)
        sums = np.pad(levels.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        y, x = np.arange(pixels.y0, pixels.y1), np.arange(pixels.x0, pixels.x1)
        top, bottom = np.maximum(y - reach, wide.y0) - wide.y0, np.minimum(y + reach + 1, wide.y1) - wide.y0
        left, right = np.maximum(x - reach, wide.x0) - wide.x0, np.minimum(x + reach + 1, wide.x1) - wide.x0
        inside = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
        mean = inside / (255.0 * (bottom - top)[:, None] * (right - left))
        own: Floats = levels[pixels.y0 - wide.y0 :, pixels.x0 - wide.x0 :][: pixels.height, : pixels.width] / 255.0
        faded: Floats = np.minimum(own, np.clip(2 * mean - 1, 0.0, 1.0)) if reach else own
        return faded

    def control(self, level: int, patch: Seen) -> Tensor:
        """What steers the model in a window: [1, h, w] in [0, 1], at the level's own pixels."""
        factor = self.plan.spec.factor
        return self._over(patch, lambda piece: self._looked_up(level, piece.box, "control", factor)[0], factor)[None]

    # -- one box of the canvas ------------------------------------------------------------------------------------

    def _cover(self, level: int, shape: Shape, piece: Piece) -> Floats:
        if shape.mask is not None:
            return np.asarray(self._looked_up(level, piece.box, self._masks[id(shape)], 1)[0], dtype=np.float64)
        y, x = self._middles(level, piece.box)
        return area.cover(shape, y[:, None], x, self.plan.period)

    def _middles(self, level: int, box: Box, per_cell: int = 1) -> tuple[Floats, Floats]:
        """Where the middles of rows and columns lie, in pixels of the finished picture; `per_cell` of each a cell."""
        tiling, last, factor = self.plan.levels[level].tiling, self.plan.tiling, self.plan.spec.factor
        y: Floats = np.arange(box.y0 * per_cell, box.y1 * per_cell, dtype=np.float64) + 0.5
        x: Floats = np.arange(box.x0 * per_cell, box.x1 * per_cell, dtype=np.float64) + 0.5
        down, across = last.y.cells / tiling.y.cells, last.x.cells / tiling.x.cells
        return y * (down * factor / per_cell), x * (across * factor / per_cell)

    def _looked_up(self, level: int, box: Box, name: str, per_cell: int) -> NDArray[np.float32]:
        """A picture that the canvas took in, over `box`, with `per_cell` values to a cell's side: means over blocks."""
        assert self._canvas is not None
        block = self.plan.spec.factor // per_cell * 2 ** (len(self.plan.levels) - 1 - level)
        y, x = ((middle / block).astype(np.int64) for middle in self._middles(level, box, per_cell))
        found = self._canvas.area(name, Box(int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1), block)
        return found[:, y - y[0]][:, :, x - x[0]]

    def _over(self, patch: Seen, look: Callable[[Piece], NDArray[np.floating]], per_cell: int = 1) -> Tensor:
        """[h, w] of a patch, put together from what its pieces show."""
        found = torch.empty(patch.height * per_cell, patch.width * per_cell)
        for piece in patch.pieces():
            height, width = extent(piece.turn, piece.box.height, piece.box.width)
            rows = slice(piece.y * per_cell, (piece.y + height) * per_cell)
            columns = slice(piece.x * per_cell, (piece.x + width) * per_cell)
            found[rows, columns] = turned(torch.from_numpy(np.asarray(look(piece), dtype=np.float32)), piece.turn)
        return found
