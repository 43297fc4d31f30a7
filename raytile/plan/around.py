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


BLEND = 3
"""Cells next to a side that meets another turned, over which what both sides see of them is blended."""


class Across(NamedTuple):
    """Cells `band` next to `edge` of their face, `near` cells away from it, and a `patch` that shows them as the face
    beyond it sees them."""

    band: Box
    edge: str
    near: int
    patch: Seen


def across(level: Level, box: Box, halo: int) -> tuple[Across, ...]:
    """For the parts of `box` next to sides that meet another turned or mirrored: those cells as seen from there, with
    `halo` cells around. Decoders know up from down: each side draws the other a little otherwise than that itself."""
    atlas, found = level.atlas, []
    if atlas is None:
        return ()
    for number, face in enumerate(atlas.faces):
        part = box.intersect(face.box)
        if not part.area:
            continue
        for edge in ("top", "right", "bottom", "left"):
            if atlas.partner((number, edge), 0) is None:
                continue
            y0, y1, x0, x1 = face.box
            side = {
                "top": Box(y0, y0 + BLEND, x0, x1),
                "bottom": Box(y1 - BLEND, y1, x0, x1),
                "left": Box(y0, y1, x0, x0 + BLEND),
                "right": Box(y0, y1, x1 - BLEND, x1),
            }[edge].intersect(part)
            if not side.area:
                continue
            near = {"top": side.y0 - y0, "bottom": y1 - side.y1, "left": side.x0 - x0, "right": x1 - side.x1}[edge]
            flat = edge in ("top", "bottom")
            rect = {
                "top": Box(-1, 0, side.x0 - x0, side.x1 - x0),
                "bottom": Box(y1 - y0, y1 - y0 + 1, side.x0 - x0, side.x1 - x0),
                "left": Box(side.y0 - y0, side.y1 - y0, -1, 0),
                "right": Box(side.y0 - y0, side.y1 - y0, x1 - x0, x1 - x0 + 1),
            }[edge]
            for beyond in atlas.parts(number, rect.y0, rect.x0, rect.height, rect.width, 0):
                if beyond.turn == 0:
                    continue
                length = max(beyond.box.height, beyond.box.width)
                band = (
                    Box(side.y0, side.y1, side.x0 + beyond.x, side.x0 + beyond.x + length)
                    if flat
                    else Box(side.y0 + beyond.y, side.y0 + beyond.y + length, side.x0, side.x1)
                )
                there = atlas.face_at(beyond.box.y0, beyond.box.x0)
                assert there is not None
                patch, _, _ = atlas.around(level.tiling, there, beyond.box, BLEND + halo, 0)
                found.append(Across(band, edge, near, patch))
    return tuple(found)


def looked_at(plan: Plan, tile: int) -> frozenset[int]:
    """The tiles whose latents the decoder looks at for the pixels of `tile` of the finished picture."""
    level, core = plan.levels[-1], plan.tiling.core(tile)
    patches: list[Seen] = [part.patch for part in around(level, core, decode_reach(plan))]
    patches += [seen.patch for seen in across(level, core, plan.spec.decode_halo)]
    return frozenset(other for patch in patches for other in patch.tiles())


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
