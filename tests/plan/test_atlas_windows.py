"""Laws of windows on atlases: cover, no vertex, what is given, and the wrapped canvas as a special case."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raytile.errors import InvalidRequest
from raytile.geometry.atlas import Atlas, Face, Join
from raytile.geometry.axis import Axis, shifted_origins, strided_origins
from raytile.geometry.box import Box
from raytile.geometry.forms import cube, cylinder, torus
from raytile.geometry.tiling import Tiling
from raytile.plan.atlas_windows import AtlasWindows, atlas_windows
from raytile.plan.windows import GridWindows
from tests.geometry.atlases import apply, atlases, shown, sides, tilings

Given = tuple[NDArray[np.int64], NDArray[np.int64]]


@st.composite
def windows(draw: st.DrawFn, of: st.SearchStrategy[Atlas] = atlases) -> AtlasWindows:
    """Windows of an atlas at some step, of either strategy."""
    atlas, size = draw(of), draw(st.integers(2, 6))
    offset = draw(st.one_of(st.none(), st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))))
    return atlas_windows(atlas, draw(tilings(atlas)), size, draw(st.integers(0, 7)), offset, draw(st.integers(1, size)))


def halved(one: Atlas, size: int, step: int) -> AtlasWindows:
    """Strided windows on a canvas of a few tiles."""
    tiling = Tiling(Axis(16, 8, wrap=False), Axis(16, 8, wrap=False))
    return atlas_windows(one, tiling, size, step, None, max(1, size // 2))


SELF_MET = Atlas((Face("p", Box(0, 8, 0, 8)),), (Join(((0, "top"), (0, "bottom")), ((0, "top"), (0, "bottom"))),))
"""Both ends may lie against both: they meet one another at some steps only."""


CAPPED = Atlas(
    (Face("ring", Box(0, 8, 0, 8)), Face("cap", Box(8, 14, 0, 8))),
    (Join(((0, "right"),), ((0, "left"),)), Join(((0, "top"),), ((1, "bottom"),))),
)
"""A ring whose upper end meets a face that is no ring: where that one ends lies a vertex."""


def moved(one: Atlas, size: int, offset: tuple[int, int]) -> AtlasWindows:
    """Shifted windows on a canvas of a few tiles."""
    tiling = Tiling(Axis(16, 8, wrap=False), Axis(16, 8, wrap=False))
    return atlas_windows(one, tiling, size, 0, offset, size)


def given_cells(grid: AtlasWindows, window: int) -> list[tuple[int, int]]:
    """(canvas cell, place in the window) of all that a window gives."""
    found = []
    places = np.arange(grid.size * grid.size).reshape(grid.size, grid.size)
    for piece in grid.gives(window).pieces():
        box = piece.box
        cells = np.arange(box.y0, box.y1)[:, None] * 1000 + np.arange(box.x0, box.x1)
        turned = apply(piece.turn, cells)
        here = places[piece.y : piece.y + turned.shape[0], piece.x : piece.x + turned.shape[1]]
        assert here.shape == turned.shape
        assert grid.tiling.core(piece.tile).intersect(box) == box
        found += zip(turned.flatten().tolist(), here.flatten().tolist(), strict=True)
    return found


def origins(atlas: Atlas) -> dict[int, int]:
    """The origin of each cell of each face."""
    found = {}
    for face in atlas.faces:
        for part, box, turn in atlas.origin(face.box):
            values = np.arange(box.y0, box.y1)[:, None] * 1000 + np.arange(box.x0, box.x1)
            cells = np.arange(part.y0, part.y1)[:, None] * 1000 + np.arange(part.x0, part.x1)
            found.update(zip(cells.flatten().tolist(), apply(turn, values).flatten().tolist(), strict=True))
    return found


@settings(deadline=None, max_examples=50)
@given(windows())
@example(moved(CAPPED, 4, (2, 2)))
@example(halved(SELF_MET, 4, 0))
@example(halved(SELF_MET, 4, 1))
def test_windows_cover_every_cell_of_every_face_and_nothing_else(grid: AtlasWindows) -> None:
    read, told = set(), set()
    for window in range(len(grid)):
        read.update(shown(grid.size, grid.size, grid.reads(window).pieces()).flatten().tolist())
        told.update(cell for cell, _ in given_cells(grid, window))
    assert read == told == set(origins(grid.atlas))


@settings(deadline=None, max_examples=50)
@given(windows())
def test_a_window_gives_each_cell_that_it_reads_once_and_all_that_are_the_same_alike(grid: AtlasWindows) -> None:
    origin = origins(grid.atlas)
    heard = defaultdict(Counter)
    for window in range(len(grid)):
        seen = shown(grid.size, grid.size, grid.reads(window).pieces()).flatten().tolist()
        told = given_cells(grid, window)
        assert max(Counter(cell for cell, _ in told).values()) == 1
        assert all(origin[cell] == origin[seen[place]] for cell, place in told)
        own = {origin[cell] for cell, _ in told}
        assert own == {origin[cell] for cell in seen} or (window in grid.spoken and own < {origin[c] for c in seen})
        first = {}
        for place, cell in enumerate(seen):
            first.setdefault(cell, place)
        if len(set(seen)) == len(seen) == len({origin[cell] for cell in seen}):
            assert all(place == first[cell] for cell, place in told if cell in first)
        for cell, place in told:
            heard[cell][window, place] += 1
    for cell, once in heard.items():
        assert once == heard[origin[cell]]


@settings(deadline=None, max_examples=50)
@given(windows(st.builds(cube, sides)))
def test_a_window_that_holds_a_corner_of_a_cube_speaks_of_two_faces_only(grid: AtlasWindows) -> None:
    """Its own and one that it crosses to; it shows the third, which all three meet, and nothing that is not there."""
    edge = grid.atlas.faces[0].box.height
    for window, (face, y, x) in enumerate(grid.places):
        over = (max(-y, y + grid.size - edge) > 0, max(-x, x + grid.size - edge) > 0)
        assert (window in grid.spoken) == all(over)
        shown_faces = {grid.atlas.face_at(piece.box.y0, piece.box.x0) for piece in grid.reads(window).pieces()}
        told_faces = {grid.atlas.face_at(piece.box.y0, piece.box.x0) for piece in grid.gives(window).pieces()}
        assert len(told_faces) == 1 + any(over)
        assert face in told_faces
        assert len(shown_faces) == 1 + sum(over)
        assert sum(piece.box.area for piece in grid.reads(window).pieces()) == grid.size**2


@settings(deadline=None, max_examples=50)
@given(st.integers(4, 8), st.integers(2, 3), st.data())
def test_each_side_of_a_corner_is_crossed_by_a_window_that_holds_it(size: int, times: int, data: st.DataObject) -> None:
    edge = size * times
    offset = data.draw(st.tuples(st.integers(1, size - 1), st.integers(1, size - 1)))
    atlas = cube(edge)
    tiling = Tiling(Axis(2 * edge, 8, wrap=False), Axis(3 * edge, 8, wrap=False))
    for step in (0, 1):
        grid = atlas_windows(atlas, tiling, size, step, offset, size)
        crossed = Counter(
            frozenset(atlas.face_at(part.box.y0, part.box.x0) for part in own) for own in grid.spoken.values()
        )
        assert len(crossed) == 12, "every side of the cube, at both of its ends"
        assert set(crossed.values()) <= {2}


@settings(deadline=None, max_examples=50)
@given(windows(st.builds(cube, sides)))
def test_windows_reach_over_every_seam_of_a_cube(grid: AtlasWindows) -> None:
    """Under `overlap` at every step; the grid of `shift` lies on the seams where it has not moved."""
    met = set()
    for window in range(len(grid)):
        faces = {grid.atlas.face_at(piece.box.y0, piece.box.x0) for piece in grid.reads(window).pieces()}
        met |= {frozenset(faces)} if len(faces) == 2 else set()
    assert met <= {frozenset((join.one[0][0], join.other[0][0])) for join in grid.atlas.joins}
    strided = atlas_windows(grid.atlas, grid.tiling, grid.size, grid.step, None, grid.size)
    crossing = {
        frozenset(grid.atlas.face_at(piece.box.y0, piece.box.x0) for piece in strided.reads(window).pieces())
        for window in range(len(strided))
    }
    assert sum(len(faces) == 2 for faces in crossing) == 12


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 8), st.booleans(), st.booleans(), st.data())
def test_on_torus_and_cylinder_they_are_those_of_the_wrapped_canvas(
    height: int, width: int, size: int, both: bool, shift: bool, data: st.DataObject
) -> None:
    height = height if both else max(height, size)
    tile = data.draw(st.integers(2, 20))
    flat = Tiling(Axis(height, tile, wrap=False), Axis(width, tile, wrap=False))
    wrapped = Tiling(Axis(height, tile, wrap=both), Axis(width, tile, wrap=True))
    offset = data.draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))) if shift else None
    stride = data.draw(st.integers(1, size))
    grid = atlas_windows((torus if both else cylinder)(height, width), flat, size, 0, offset, stride)
    axes = (wrapped.y, wrapped.x)
    if offset is None:
        ys, xs = (strided_origins(axis, size, stride) for axis in axes)
    else:
        ys, xs = (shifted_origins(axis, size, by) for axis, by in zip(axes, offset, strict=True))
    same = GridWindows(wrapped, size, ys, xs)
    assert len(grid) == len(same)
    for window in range(len(same)):
        assert set(grid.reads(window).pieces()) == set(same.reads(window).pieces())
        assert sorted(given_cells(grid, window)) == sorted(given_cells(same, window))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(windows(), st.data())
def test_many_windows_at_once_are_each_of_them(grid: AtlasWindows, data: st.DataObject) -> None:
    assert sorted(grid.compact_order) == list(range(len(grid)))
    chosen = data.draw(st.lists(st.integers(0, len(grid) - 1), max_size=6))
    for told in (False, True):
        pieces = grid.pieces(np.array(chosen, dtype=np.int64), told)
        columns = (pieces.window, pieces.tile, pieces.box, pieces.at, pieces.turn)
        found = list(zip(*(column.tolist() for column in columns), strict=True))
        expected = [
            (window, tile, list(box), [y, x], turn)
            for window in chosen
            for tile, box, y, x, turn in (grid.gives if told else grid.reads)(window).pieces()
        ]
        assert found == expected
    for window in chosen:
        assert set(grid.tiles[window].tolist()) == set(grid.reads(window).tiles())
        if grid.local:
            assert set(grid.gives(window).tiles()) <= set(grid.tiles[window].tolist())


def test_a_face_smaller_than_a_window_is_refused() -> None:
    tiling = Tiling(Axis(10, 8, wrap=False), Axis(15, 8, wrap=False))
    with pytest.raises(InvalidRequest, match="make it at least 6 a side"):
        atlas_windows(cube(5), tiling, 6, 0, (0, 0), 3)


def test_a_side_meets_each_of_its_partners_over_the_steps() -> None:
    faces = tuple(Face(name, Box(0, 8, 8 * k, 8 * k + 8)) for k, name in enumerate("abc"))
    atlas = Atlas(faces, (Join(((0, "right"),), ((1, "left"), (2, "left"))),))
    tiling = Tiling(Axis(8, 8, wrap=False), Axis(24, 8, wrap=False))
    met = []
    for step in range(4):
        grid = atlas_windows(atlas, tiling, 4, step, (0, 2), 2)
        over = [w for w, (face, _, x) in enumerate(grid.places) if face == 0 and x == 6]
        met.append({piece.box.x0 // 8 for window in over for piece in grid.reads(window).pieces()} - {0})
    assert met == [{1}, {2}, {1}, {2}]
