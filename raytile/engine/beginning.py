"""How cells come into being at the start of a level, and what later holds them to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from raytile.engine.held import Held, gather, paste, turned
from raytile.engine.survey import Survey
from raytile.geometry.box import Box
from raytile.geometry.tiling import Piece
from raytile.models.base import Module
from raytile.plan import noise
from raytile.plan.around import around, by_pixels
from raytile.plan.cascade import skip_weight
from raytile.plan.phases import origins
from raytile.plan.plan import Plan
from raytile.plan.upsample import Taps, enlarging
from raytile.sampling import Schedule, renoise, start
from raytile.sync.upsample import double, upsample

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas

Before = Mapping[int, Sequence[Held]]


class Beginning:
    """First latents of any box of any level: a function of plan and position, and of what stands on `canvas`."""

    def __init__(self, plan: Plan, module: Module, schedule: Schedule, survey: Survey, canvas: Canvas | None) -> None:
        self.plan, self._module, self._schedule, self._survey, self._canvas = plan, module, schedule, survey, canvas
        self._doubling, self._basis = module.doubling(), module.turns()
        self._gaps = [() if level.atlas is None else level.atlas.gaps(level.tiling) for level in plan.levels]

    def begin(self, level: int, box: Box, before: Before) -> Held:
        """The cells of `box` at the first step of `level`; `before` are those they are made of, of the level before, or
        clean ones of this level, by tile."""
        this = self.plan.levels[level]
        channels, first = self.plan.spec.channels, this.first_step
        x = torch.empty(channels, box.height, box.width)
        ref = torch.empty_like(x) if this.anchored else None
        for here, there, turn in origins(this, box):
            unit, clean = self._start_noise(level, there), None
            if this.begins == "level":
                clean = self._enlarged(level, there, before)
            elif this.begins == "clean":
                patch = this.tiling.patch(there.y0, there.x0, there.height, there.width)
                clean = gather(patch, before, channels)
            fresh = start(unit, self._schedule) if clean is None else renoise(clean, unit, first, self._schedule)
            if this.begins == "clean" and first == 0:
                fresh = start(unit, self._schedule)
            place = here.shift(-box.y0, -box.x0)
            rows, columns = slice(place.y0, place.y1), slice(place.x0, place.x1)
            x[:, rows, columns] = turned(fresh, turn, self._basis)
            if ref is not None and clean is not None:
                ref[:, rows, columns] = turned(clean, turn, self._basis)
        held = Held(box, x, (), first, ref)
        self.draw(level, held)
        return held

    def frozen(self, level: int, step: int, box: Box) -> Held:
        """Cells of a tile in which nothing is painted, as they are at the start of `step`."""
        assert self._canvas is not None
        ref = torch.from_numpy(self._canvas.read_source_latents(box))
        held = Held(box, torch.empty_like(ref), (), step, ref)
        self.draw(level, held)
        return held

    def draw(self, level: int, held: Held) -> None:
        """Hold cells of an anchored level to their clean start: those that are not painted altogether, the others, with
        the skip residual, less and less (DemoFusion, Du et al. 2024, arXiv 2311.16973, section 3.2)."""
        this, step = self.plan.levels[level], held.step
        if held.ref is None or (step == this.first_step and not self.plan.partial):
            return
        last = step == this.steps
        noised = held.ref if last else self._noised(level, held.box, held.ref, step)
        if self.plan.partial:
            held.x = torch.where(self._survey.free(level, held.box), held.x, noised)
        elif not last:
            weight = skip_weight(step, this.steps)
            held.x = noised * weight + held.x * (1 - weight)

    def idle(self, level: int, box: Box) -> Tensor | None:
        """Cells [h, w] of `box` that need no prediction: those that are not painted, and those on no face."""
        gaps = [gap for gap in (gap.intersect(box) for gap in self._gaps[level]) if gap.area]
        if not gaps and not self.plan.partial:
            return None
        found = torch.zeros(box.height, box.width, dtype=torch.bool)
        if self.plan.partial:
            found = ~self._survey.free(level, box)
        for gap in gaps:
            found[gap.y0 - box.y0 : gap.y1 - box.y0, gap.x0 - box.x0 : gap.x1 - box.x0] = True
        return found

    def noise(self, purpose: str, level: int, step: int, box: Box) -> Tensor:
        """Unit noise of the cells of `box`; the same where sides are alike."""
        key = noise.key(self.plan.request.seed, level, purpose, step)
        found = torch.empty(self.plan.spec.channels, box.height, box.width)
        for here, there, turn in origins(self.plan.levels[level], box):
            values = torch.from_numpy(noise.normal(key, there, self.plan.spec.channels))
            piece = Piece(0, here, here.y0 - box.y0, here.x0 - box.x0)
            paste(found, piece, turned(values, turn, self._basis))
        return found

    # -- clean latents -------------------------------------------------------------------------------------------

    def clean(self, level: int, box: Box, before: Before) -> Tensor:
        """The clean latents of `box`, one whole tile: of the source, or by way of pixels of the level before."""
        if level:
            return self._by_pixels(level, box, before)
        assert self._canvas is not None
        if self.plan.partial:
            return torch.from_numpy(self._canvas.read_source_latents(box))
        factor = self.plan.spec.factor
        found = torch.zeros(self.plan.spec.channels, box.height, box.width)
        for part in around(self.plan.levels[0], box, self.plan.spec.encode_halo):
            pixels = torch.empty(3, part.patch.height * factor, part.patch.width * factor)
            for piece in part.patch.pieces():
                scaled = Piece(
                    piece.tile,
                    Box(*(edge * factor for edge in piece.box)),
                    piece.y * factor,
                    piece.x * factor,
                    piece.turn,
                )
                paste(pixels, scaled, self._source_pixels(scaled.box))
            latents = self._module.encode(pixels)
            inner = latents[:, part.top : part.top + part.box.height, part.left : part.left + part.box.width]
            paste(found, Piece(0, part.box, part.box.y0 - box.y0, part.box.x0 - box.x0), inner)
        return found

    def _source_pixels(self, box: Box) -> Tensor:
        """Pixels [3, h, w] of the source in [-1, 1]; beyond the picture its last ones again."""
        assert self._canvas is not None
        height, width = self.plan.source_size
        there = Box(min(box.y0, height - 1), min(box.y1, height), min(box.x0, width - 1), min(box.x1, width))
        values = self._canvas.read_source(there)
        more = ((0, 0), (0, box.height - there.height), (0, box.width - there.width))
        return torch.from_numpy(np.pad(values, more, mode="edge").astype(np.float32)) / 127.5 - 1

    def _by_pixels(self, level: int, box: Box, before: Before) -> Tensor:
        way = by_pixels(self.plan, level, box)
        pixels = self._module.decode(gather(way.patch, before, self.plan.spec.channels))
        shown = pixels[:, way.top : way.top + way.rows.length, way.left : way.left + way.columns.length]
        latents = self._module.encode(upsample(shown, way.rows, way.columns))
        return latents[:, way.down : way.down + box.height, way.right : way.right + box.width]

    def _enlarged(self, level: int, box: Box, before: Before) -> Tensor:
        found = torch.zeros(self.plan.spec.channels, box.height, box.width)
        for part in enlarging(self.plan, level, box):
            patch = gather(part.patch, before, self.plan.spec.channels)
            piece = Piece(0, part.box, part.box.y0 - box.y0, part.box.x0 - box.x0)
            paste(found, piece, self._enlarge(patch, part.rows, part.columns))
        return found

    def _enlarge(self, patch: Tensor, rows: Taps, columns: Taps) -> Tensor:
        if self._doubling is None:
            return upsample(patch, rows, columns)
        return double(patch, rows, columns, *self._doubling)

    # -- noise ---------------------------------------------------------------------------------------------------

    def _start_noise(self, level: int, box: Box) -> Tensor:
        """Unit noise that the level begins with; other where a region has a seed of its own."""
        channels = self.plan.spec.channels
        unit = torch.from_numpy(noise.normal(noise.key(self.plan.request.seed, level, "start"), box, channels))
        for region in self.plan.request.regions:
            if region.seed is not None:
                other = torch.from_numpy(noise.normal(noise.key(region.seed, level, "start"), box, channels))
                unit = torch.where(self._survey.inside(level, box, region), other, unit)
        return unit

    def _noised(self, level: int, box: Box, ref: Tensor, step: int) -> Tensor:
        """The clean start brought to the noise level of `step` with the noise that the level began with."""
        found = torch.empty_like(ref)
        for here, there, turn in origins(self.plan.levels[level], box):
            values = turned(self._start_noise(level, there), turn, self._basis)
            paste(found, Piece(0, here, here.y0 - box.y0, here.x0 - box.x0), values)
        return renoise(ref, found, step, self._schedule)
