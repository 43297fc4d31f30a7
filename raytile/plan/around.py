"""What lies around a box of cells, over seams too: for decoders and encoders, which look beyond a tile's edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.plan.upsample import Taps, taps
from raytile.plan.windows import Seen

if TYPE_CHECKING:
    from raytile.plan.plan import Level, Plan


COLOURS_REACH = 3
"""Blocks around a tile that matching its colours looks at: two of the filter, one of the interpolation."""


class Around(NamedTuple):
    """A part of a box, found at (`top`, `left`) of `patch`, which reaches beyond it on all sides where it can."""

    box: Box
    patch: Seen
    top: int
    left: int


def around(level: Level, box: Box, halo: int) -> tuple[Around, ...]:
    """The parts of `box`, one for each face it lies on, with `halo` cells around each (none beyond bounded sides)."""
    if level.atlas is None:
        oy, height = level.tiling.y.around(box.y0, box.y1, halo)
        ox, width = level.tiling.x.around(box.x0, box.x1, halo)
        return (Around(box, level.tiling.patch(oy, ox, height, width), box.y0 - oy, box.x0 - ox),)
    found = []
    for number, face in enumerate(level.atlas.faces):
        part = box.intersect(face.box)
        if part.area:
            patch, top, left = level.atlas.around(level.tiling, number, part, halo, 0)
            found.append(Around(part, patch, top, left))
    return tuple(found)


def decode_reach(plan: Plan) -> int:
    """How many cells around a tile of the finished picture its decoder looks at: the model's halo, and what it takes to
    match colours, in whole blocks as large as a cell of the coarsest level."""
    if not plan.request.match_colour:
        return plan.spec.decode_halo
    block: int = 1 << (len(plan.levels) - 1)
    return -(-(plan.spec.decode_halo + COLOURS_REACH * block) // block) * block


class ByPixels(NamedTuple):
    """How fine cells come about by way of pixels: `patch` of coarse cells is decoded, rows and columns of its pixels
    (less `top`, `left`) are enlarged by taps, what they show is encoded, and of that the cells of `box` begin at
    (`down`, `right`)."""

    box: Box
    patch: Seen
    top: int
    left: int
    rows: Taps
    columns: Taps
    down: int
    right: int


def by_pixels(plan: Plan, level: int, box: Box) -> ByPixels:
    """How the cells of `box` of `level` come about by way of pixels of the level before."""
    fine, coarse, factor = plan.levels[level], plan.levels[level - 1], plan.spec.factor
    assert fine.atlas is None, "sides of an atlas are enlarged as latents"
    rows, top, length_y, down = _stretch(coarse.tiling.y, fine.tiling.y, box.y0, box.y1, plan)
    columns, left, length_x, right = _stretch(coarse.tiling.x, fine.tiling.x, box.x0, box.x1, plan)
    patch = coarse.tiling.patch(top, left, length_y, length_x)
    shown = rows.origin - top * factor, columns.origin - left * factor
    return ByPixels(box, patch, *shown, rows, columns, down, right)


def _stretch(coarse: Axis, fine: Axis, start: int, stop: int, plan: Plan) -> tuple[Taps, int, int, int]:
    """Of the fine cells [start, stop) and the encoder's halo: the taps of their pixels, the coarse cells (origin,
    length) that these are decoded from, and how many cells of halo come first."""
    factor = plan.spec.factor
    origin, length = fine.around(start, stop, plan.spec.encode_halo)
    pixels = [Axis(axis.cells * factor, axis.cells * factor, axis.wrap) for axis in (coarse, fine)]
    found = taps(*pixels, origin * factor, (origin + length) * factor)
    first, last = found.origin // factor, -(-(found.origin + found.length) // factor)
    left, cells = coarse.around(first, last, plan.spec.decode_halo)
    return found, left, cells, start - origin
