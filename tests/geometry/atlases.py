"""Hypothesis strategies for atlases, and plain cell by cell readings of them to hold the fast ones against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from raytile.geometry.atlas import QUARTERS, Atlas, Face, Join, Part, Side
from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.geometry.forms import cube, cylinder, equirectangular, torus
from raytile.geometry.tiling import Piece, Tiling
from raytile.geometry.turn import MIRROR

sides = st.integers(6, 14)


@st.composite
def tilesets(draw: st.DrawFn, least: int = 6) -> Atlas:
    """Up to four pictures of a few sizes, laid in a row with gaps, their sides joined at random or not at all."""
    lengths = draw(st.lists(st.integers(least, least + 6), min_size=1, max_size=2))
    faces, left = [], draw(st.integers(0, 2))
    for number in range(draw(st.integers(1, 4))):
        height, width = draw(st.sampled_from(lengths)), draw(st.sampled_from(lengths))
        top = draw(st.integers(0, 2))
        faces.append(Face(f"p{number}", Box(top, top + height, left, left + width)))
        left += width + draw(st.integers(0, 2))
    bare = Atlas(tuple(faces), ())
    free = draw(st.permutations([(face, edge) for face in range(len(faces)) for edge in QUARTERS]))
    joins: list[Join] = []
    for length in set(lengths):
        alike = [side for side in free if bare.length(side) == length]
        while alike and draw(st.integers(0, 5)):
            ones = alike[: draw(st.integers(1, 3))]
            alike = alike[len(ones) :]
            others = alike[: draw(st.integers(0, 3))]  # none: they meet one another and themselves
            alike = alike[len(others) :]
            joins.append(Join(tuple(ones), tuple(others or ones), mirrored=draw(st.booleans())))
    return Atlas(tuple(faces), tuple(joins), strip=draw(st.integers(1, 3)))


@st.composite
def twisted(draw: st.DrawFn) -> Atlas:
    """A torus or Klein bottle whose ends are joined after a turn about its axis."""
    height, width = draw(sides), draw(sides)
    around = Join(((0, "right"),), ((0, "left"),))
    along = Join(((0, "bottom"),), ((0, "top"),), mirrored=draw(st.booleans()), shift=draw(st.integers(0, width - 1)))
    return Atlas((Face("map", Box(0, height, 0, width)),), (around, along))


atlases = st.one_of(
    st.builds(cube, sides),
    st.builds(equirectangular, sides, sides.map(lambda half: 2 * half)),
    st.builds(cylinder, sides, sides),
    st.builds(torus, sides, sides),
    twisted(),
    tilesets(),
)


@st.composite
def tilings(draw: st.DrawFn, atlas: Atlas) -> Tiling:
    """The canvas of an atlas in tiles of any size."""
    height = max(face.box.y1 for face in atlas.faces) + draw(st.integers(0, 2))
    width = max(face.box.x1 for face in atlas.faces) + draw(st.integers(0, 2))
    return Tiling(Axis(height, draw(st.integers(2, 20)), wrap=False), Axis(width, draw(st.integers(2, 20)), wrap=False))


def apply(turn: int, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """A turn, by numpy."""
    return np.rot90(np.flip(values, 1) if turn >= MIRROR else values, turn % 4)


def shown(height: int, width: int, pieces: Iterable[Piece | Part], columns: int = 1000) -> NDArray[np.int64]:
    """The canvas cell, y * columns + x, that every cell of a patch shows; each must be shown once."""
    seen = np.full((height, width), -1)
    for piece in pieces:
        box = piece.box
        values = np.arange(box.y0, box.y1)[:, None] * columns + np.arange(box.x0, box.x1)
        values = apply(piece.turn, values)
        here = seen[piece.y : piece.y + values.shape[0], piece.x : piece.x + values.shape[1]]
        assert here.shape == values.shape
        assert (here == -1).all()
        here[:] = values
    assert (seen >= 0).all()
    return seen


OUT: dict[str, tuple[int, int]] = {"right": (0, 1), "top": (-1, 0), "left": (0, -1), "bottom": (1, 0)}


def edge_cells(atlas: Atlas, side: Side) -> Iterator[tuple[int, int]]:
    """The cells of the canvas at a side."""
    y0, y1, x0, x1 = atlas.faces[side[0]].box
    rows = {"top": range(y0, y0 + 1), "bottom": range(y1 - 1, y1)}.get(side[1], range(y0, y1))
    columns = {"left": range(x0, x0 + 1), "right": range(x1 - 1, x1)}.get(side[1], range(x0, x1))
    return ((y, x) for y in rows for x in columns)
