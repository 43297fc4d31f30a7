"""Sides filled from their partners and strips that are alike, against Tiled Diffusion, cell for cell.

Recorded pictures have a number of its own in every cell, so that it shows whence each was copied and how turned. Left
out are the corners of its pads, which it fills with its partner's pads, and of its strips, where the last copy wins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from raytile.geometry.atlas import Atlas, Face, Join, Side
from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.geometry.tiling import Tiling
from raytile.geometry.turn import MIRROR, extent
from tests.oracles.figures import Array, recorded
from tests.oracles.record_tiled_diffusion import CASES, PAD, SIDE, SIDES, STEPS, STRIP, numbered

OUTSIDE: dict[str, tuple[int, int, int, int]] = {  # y, x, height, width from the picture's corner
    "right": (0, SIDE, SIDE, PAD),
    "left": (0, -PAD, SIDE, PAD),
    "top": (-PAD, 0, PAD, SIDE),
    "bottom": (SIDE, 0, PAD, SIDE),
}
INSIDE: dict[str, Box] = {
    "right": Box(STRIP, SIDE - STRIP, SIDE - STRIP, SIDE),
    "left": Box(STRIP, SIDE - STRIP, 0, STRIP),
    "top": Box(0, STRIP, STRIP, SIDE - STRIP),
    "bottom": Box(SIDE - STRIP, SIDE, STRIP, SIDE - STRIP),
}


def classes(case: str) -> Iterator[tuple[tuple[Side, ...], tuple[Side, ...]]]:
    """The sides of each colour, those that go one way and those that go the other, in Tiled Diffusion's order."""
    found: dict[int, tuple[list[Side], list[Side]]] = {}
    for face, sides in enumerate(CASES[case]):
        for edge, side in zip(SIDES, sides, strict=True):
            if side is not None:
                found.setdefault(side[0], ([], []))[side[1] == "ccw"].append((face, edge))
    for one, other in found.values():
        yield tuple(one), tuple(other)


def atlas(case: str) -> Atlas:
    """The pictures of a case side by side, joined by colour."""
    faces = tuple(Face(f"picture{n}", Box(0, SIDE, n * SIDE, (n + 1) * SIDE)) for n in range(len(CASES[case])))
    return Atlas(faces, tuple(Join(one, other) for one, other in classes(case)), strip=STRIP)


def turned(cells: Array, turn: int) -> Array:
    """What a window shows of a box, by the meaning of a turn."""
    return np.rot90(np.flip(cells, axis=1) if turn >= MIRROR else cells, turn % 4)


def canvas(case: str) -> Array:
    """The numbers of all pictures, without their pads."""
    return np.concatenate([cells[0, 0, PAD:-PAD, PAD:-PAD].numpy() for cells in numbered(len(CASES[case]))], axis=1)


@pytest.mark.parametrize("case", list(CASES))
def test_beyond_a_side_lies_what_tiled_diffusion_fills_in(case: str) -> None:
    here, cells = atlas(case), canvas(case)
    tiling = Tiling(Axis(SIDE, 5, wrap=False), Axis(cells.shape[1], 5, wrap=False))
    filled = recorded("tiled_diffusion")[f"{case}|filled"]
    for step in range(STEPS):
        for face, sides in enumerate(CASES[case]):
            for edge, side in zip(SIDES, sides, strict=True):
                if side is None:
                    assert here.partner((face, edge), step) is None
                    continue
                y, x, height, width = OUTSIDE[edge]
                ours = np.full((height, width), -1.0)
                for piece in here.patch(tiling, face, y, x, height, width, step).pieces():
                    values = turned(cells[piece.box.y0 : piece.box.y1, piece.box.x0 : piece.box.x1], piece.turn)
                    ours[piece.y : piece.y + values.shape[0], piece.x : piece.x + values.shape[1]] = values
                theirs = filled[step, face, y + PAD : y + PAD + height, x + PAD : x + PAD + width]
                assert np.array_equal(ours, theirs), (edge, step)


@pytest.mark.parametrize("case", list(CASES))
def test_strips_that_are_alike_are_those_that_tiled_diffusion_copies(case: str) -> None:
    """It copies from one member of a class to the others, each member's turn to be copied coming round."""
    here, cells = atlas(case), canvas(case)
    alike = recorded("tiled_diffusion")[f"{case}|alike"]
    copied = 0
    for step in range(STEPS):
        for members in (sides for pair in classes(case) for sides in pair):
            source, edge = members[step % len(members)]
            whence = INSIDE[edge].shift(0, source * SIDE)
            for face, side in members:
                inside = INSIDE[side]
                box = inside.shift(0, face * SIDE)
                ours = cells[box.y0 : box.y1, box.x0 : box.x1]
                if (face, side) != (source, edge):
                    (copy,) = [copy for copy in here.twins(box) if copy.part == box and copy.box.intersect(whence).area]
                    assert extent(copy.turn, copy.box.height, copy.box.width) == (box.height, box.width)
                    ours = turned(cells[copy.box.y0 : copy.box.y1, copy.box.x0 : copy.box.x1], copy.turn)
                    copied += 1
                theirs = alike[step, face, PAD + inside.y0 : PAD + inside.y1, PAD + inside.x0 : PAD + inside.x1]
                assert np.array_equal(ours, theirs), (step, face, side)
                (first,) = here.origin(box)
                (_, whole) = members[0]
                assert first.box == INSIDE[whole].shift(0, members[0][0] * SIDE)
    several = any(len(sides) > 1 for pair in classes(case) for sides in pair)
    assert bool(copied) == several


@pytest.mark.parametrize("case", list(CASES))
def test_the_partner_of_a_side_comes_round_in_tiled_diffusions_order(case: str) -> None:
    """Which picture lies beyond a side is seen from the numbers in its pad."""
    here, filled = atlas(case), recorded("tiled_diffusion")[f"{case}|filled"]
    for step in range(STEPS):
        for face, sides in enumerate(CASES[case]):
            for edge, side in zip(SIDES, sides, strict=True):
                partner = here.partner((face, edge), step)
                if side is None or partner is None:
                    assert side is partner is None
                    continue
                y, x, height, width = OUTSIDE[edge]
                theirs = filled[step, face, y + PAD : y + PAD + height, x + PAD : x + PAD + width]
                assert set(np.unique(theirs // 1000)) == {partner[0]}
