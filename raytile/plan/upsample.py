"""Which coarse cells a fine cell is made of when a level becomes the next: exact integers, so the same everywhere."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.geometry.tiling import Patch, Tiling
from raytile.plan.windows import Seen

if TYPE_CHECKING:
    from raytile.plan.plan import Plan

TAPS = 4


class Taps(NamedTuple):
    """For each fine cell of a stretch: `cells[i]` its four coarse cells, and `numerator[i] / denominator`
    how far it lies past the second. `origin, length`: the stretch of coarse cells that all taps lie in. On a bounded
    axis taps beyond an end are the end's cell."""

    origin: int
    length: int
    cells: tuple[tuple[int, int, int, int], ...]
    numerator: tuple[int, ...]
    denominator: int


@lru_cache(maxsize=4096)
def taps(coarse: Axis, fine: Axis, start: int, stop: int) -> Taps:
    """Where the fine cells `[start, stop)` lie on the coarse axis: centre i + 1/2 maps to (i + 1/2) * coarse / fine."""
    denominator = 2 * fine.cells
    bases, numerators = [], []
    for cell in range(start, stop):
        base, numerator = divmod((2 * cell + 1) * coarse.cells - fine.cells, denominator)
        bases.append(base)
        numerators.append(numerator)
    origin, last = bases[0] - 1, bases[-1] + 2
    if not coarse.wrap:
        origin, last = max(origin, 0), min(last, coarse.cells - 1)
    index = tuple(tuple(min(max(base - 1 + tap, origin), last) - origin for tap in range(TAPS)) for base in bases)
    return Taps(origin, last - origin + 1, index, tuple(numerators), denominator)  # type: ignore[arg-type]


def coarse_patch(coarse: Tiling, fine: Tiling, box: Box) -> tuple[Patch, Taps, Taps]:
    """The patch of the coarse level that the fine cells of `box` are made of, and the taps of its rows and columns."""
    rows = taps(coarse.y, fine.y, box.y0, box.y1)
    columns = taps(coarse.x, fine.x, box.x0, box.x1)
    return coarse.patch(rows.origin, columns.origin, rows.length, columns.length), rows, columns


class Part(NamedTuple):
    """A part of some fine cells, and what it is made of: `patch` of coarse cells, and the taps of its rows and columns
    in that."""

    box: Box
    patch: Seen
    rows: Taps
    columns: Taps


def enlarging(plan: Plan, level: int, box: Box) -> tuple[Part, ...]:
    """What the cells of `box` of `level` are made of, from the level before. The faces of an atlas are enlarged each
    for itself: their steps to come take the sides together again."""
    coarse, fine, atlas = plan.levels[level - 1].tiling, plan.levels[level].tiling, plan.levels[level].atlas
    if atlas is None:
        return (Part(box, *coarse_patch(coarse, fine, box)),)
    found = []
    below = plan.levels[level - 1].atlas
    assert below is not None
    for face, under in zip(atlas.faces, below.faces, strict=True):
        part = box.intersect(face.box)
        if not part.area:
            continue
        near, far = face.box, under.box
        rows = taps(_bounded(far.height), _bounded(near.height), part.y0 - near.y0, part.y1 - near.y0)
        columns = taps(_bounded(far.width), _bounded(near.width), part.x0 - near.x0, part.x1 - near.x0)
        patch = coarse.patch(far.y0 + rows.origin, far.x0 + columns.origin, rows.length, columns.length)
        found.append(Part(part, patch, rows, columns))
    return tuple(found)


def _bounded(cells: int) -> Axis:
    return Axis(cells, cells, wrap=False)
