"""Laws of atlases: crossing seams, patches over them, corners, and what is the same as what."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raytile.errors import InvalidRequest
from raytile.geometry import atlas as atlas_module
from raytile.geometry.atlas import DEEPER, QUARTERS, Atlas, Face, Join, Side, Vertex
from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.geometry.forms import CUBE, cube, cylinder, equirectangular, torus
from raytile.geometry.tiling import Tiling
from raytile.geometry.topology import OPPOSITE
from raytile.geometry.topology import Side as Edge
from raytile.geometry.turn import compose
from tests.geometry.atlases import OUT, apply, atlases, edge_cells, shown, sides, tilesets, tilings


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(atlas_module).failed == 0


@settings(deadline=None)
@given(atlases)
def test_crossing_a_seam_and_coming_back_by_the_same_pair_leads_home(atlas: Atlas) -> None:
    for join in atlas.joins:
        for one in join.one:
            for other in join.other:
                for y, x in edge_cells(atlas, one):
                    there = atlas.cross(one, other, y, x)
                    assert there in set(edge_cells(atlas, other))
                    assert atlas.cross(other, one, *there) == (y, x)


@settings(deadline=None)
@given(atlases, st.integers(0, 9))
def test_a_side_meets_every_partner_in_turn(atlas: Atlas, step: int) -> None:
    for join in atlas.joins:
        for side in join.one:
            assert [atlas.partner(side, len(join.other) * step + k) for k in range(len(join.other))] == [*join.other]
        for side in join.other if join.one != join.other else ():
            assert [atlas.partner(side, len(join.one) * step + k) for k in range(len(join.one))] == [*join.one]


@settings(deadline=None)
@given(atlases, st.integers(0, 9), st.data())
def test_beyond_a_side_a_patch_shows_the_cells_one_crosses_to(atlas: Atlas, step: int, data: st.DataObject) -> None:
    assume(atlas.joins)
    join = data.draw(st.sampled_from(atlas.joins))
    side = data.draw(st.sampled_from([*join.one, *join.other]))
    partner = atlas.partner(side, step)
    assert partner is not None
    dy, dx = OUT[side[1]]
    box = atlas.faces[side[0]].box
    tiling = data.draw(tilings(atlas))
    cells = list(edge_cells(atlas, side))
    y, x = cells[0]
    height, width = (len(cells), 1) if dx else (1, len(cells))
    patch = atlas.patch(tiling, side[0], y + dy - box.y0, x + dx - box.x0, height, width, step)
    expected = [divmod(cell, 1000) for cell in shown(height, width, patch.pieces()).flatten().tolist()]
    assert expected == [atlas.cross(side, partner, *cell) for cell in cells]


@settings(deadline=None)
@given(atlases, st.integers(0, 9), st.data())
def test_patches_are_pictures_without_a_fold(atlas: Atlas, step: int, data: st.DataObject) -> None:
    """Every cell once; neighbours in a patch are neighbours in a face or over a seam, as one turned frame sees them."""
    face = data.draw(st.integers(0, len(atlas.faces) - 1))
    box = atlas.faces[face].box
    height, width = data.draw(st.integers(1, box.height)), data.draw(st.integers(1, box.width))
    y, x = data.draw(st.integers(-5, box.height - height + 5)), data.draw(st.integers(-5, box.width - width + 5))
    tiling = data.draw(tilings(atlas))
    try:
        patch = atlas.patch(tiling, face, y, x, height, width, step)
    except Vertex:
        assert y < 0 or y + height > box.height
        assert x < 0 or x + width > box.width
        return
    except ValueError:
        names = ("top", "bottom", "left", "right")
        beyond = (y < 0, y + height > box.height, x < 0, x + width > box.width)
        assert any(out and atlas.partner((face, name), step) is None for out, name in zip(beyond, names, strict=True))
        return
    seen = shown(height, width, patch.pieces())
    for piece in patch.pieces():
        assert tiling.core(piece.tile).intersect(piece.box) == piece.box
    around = {}
    for side in (side for join in atlas.joins for side in (*join.one, *join.other)):
        partner = atlas.partner(side, step)
        assert partner is not None
        for cell in edge_cells(atlas, side):
            around.setdefault(cell, set()).add(atlas.cross(side, partner, *cell))
    for one, other in [
        *zip(seen[:, :-1].flatten().tolist(), seen[:, 1:].flatten().tolist(), strict=True),
        *zip(seen[:-1].flatten().tolist(), seen[1:].flatten().tolist(), strict=True),
    ]:
        a, b = divmod(one, 1000), divmod(other, 1000)
        inside = abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 and atlas.face_at(*a) == atlas.face_at(*b)
        assert inside or b in around.get(a, ()) or a in around.get(b, ())


def walk(atlas: Atlas, side: Side, cell: tuple[int, int], step: int) -> list[tuple[int, int]]:
    """The cells seen going straight on over `side` from `cell`: 40, or until a side that is not joined."""
    (face, heading), walked, here = side, [cell], cell
    for _ in range(40):
        if here in set(edge_cells(atlas, (face, heading))):
            partner = atlas.partner((face, heading), step)
            if partner is None:
                break
            here = atlas.cross((face, heading), partner, *here)
            face, heading = partner[0], OPPOSITE[partner[1]]
        else:
            here = here[0] + OUT[heading][0], here[1] + OUT[heading][1]
        walked.append(here)
    return walked


@settings(deadline=None)
@given(atlases, st.integers(0, 9), st.data())
def test_a_walk_straight_on_sees_what_a_patch_shows(atlas: Atlas, step: int, data: st.DataObject) -> None:
    """Over any number of seams: the walker knows only where it is, and by which side it came in."""
    assume(atlas.joins)
    join = data.draw(st.sampled_from(atlas.joins))
    face, heading = side = data.draw(st.sampled_from([*join.one, *join.other]))
    box = atlas.faces[face].box
    cell = data.draw(st.sampled_from(list(edge_cells(atlas, side))))
    dy, dx = OUT[heading]
    walked = walk(atlas, side, cell, step)
    far = len(walked) - 1
    y, x = cell[0] - box.y0 + min(0, dy * far), cell[1] - box.x0 + min(0, dx * far)
    height, width = abs(dy) * far + 1, abs(dx) * far + 1
    patch = atlas.patch(data.draw(tilings(atlas)), side[0], y, x, height, width, step)
    seen = [divmod(value, 1000) for value in shown(height, width, patch.pieces()).flatten().tolist()]
    assert seen[:: 1 if dy + dx > 0 else -1] == walked


@pytest.mark.parametrize("entered", QUARTERS)
@pytest.mark.parametrize("last", QUARTERS)
@pytest.mark.parametrize("mirrored", [(False, True), (True, False), (True, True), (False, False)])
def test_turns_and_mirrors_over_two_seams_add_up(entered: Edge, last: Edge, mirrored: tuple[bool, bool]) -> None:
    atlas = Atlas(
        tuple(Face(name, Box(0, 8, 8 * k, 8 * k + 8)) for k, name in enumerate("abc")),
        (
            Join(((0, "right"),), ((1, entered),), mirrored[0]),
            Join(((1, OPPOSITE[entered]),), ((2, last),), mirrored[1]),
        ),
    )
    seen = shown(8, 24, atlas.parts(0, 0, 0, 8, 24, 0))
    for row, cell in enumerate(edge_cells(atlas, (0, "right"))):
        assert [divmod(value, 1000) for value in seen[row, 7:].tolist()] == walk(atlas, (0, "right"), cell, 0)


def test_where_one_of_two_ways_round_a_corner_ends_lies_a_vertex() -> None:
    ring, cap = Face("ring", Box(0, 8, 0, 8)), Face("cap", Box(8, 16, 0, 8))
    atlas = Atlas((ring, cap), (Join(((0, "right"),), ((0, "left"),)), Join(((0, "top"),), ((1, "bottom"),))))
    for x in (-1, 7):
        with pytest.raises(Vertex):
            atlas.parts(0, -1, x, 2, 2, 0)
        assert atlas.parts(0, 0, x, 2, 2, 0)
    with pytest.raises(ValueError, match="cap ends at its left side"):
        atlas.parts(1, 0, -1, 2, 2, 0)


@settings(deadline=None)
@given(sides, sides, st.booleans(), st.data())
def test_torus_and_cylinder_are_the_wrapped_canvas(height: int, width: int, both: bool, data: st.DataObject) -> None:
    atlas = (torus if both else cylinder)(height, width)
    tile = data.draw(st.integers(2, 20))
    flat = Tiling(Axis(height, tile, wrap=False), Axis(width, tile, wrap=False))
    wrapped = Tiling(Axis(height, tile, wrap=both), Axis(width, tile, wrap=True))
    h = data.draw(st.integers(1, 2 * height if both else height))
    w = data.draw(st.integers(1, 2 * width))
    y = data.draw(st.integers(-height, height) if both else st.integers(0, height - h))
    x = data.draw(st.integers(-width, width))
    assert set(atlas.patch(flat, 0, y, x, h, w, 0).pieces()) == set(wrapped.patch(y, x, h, w).pieces())
    halo = data.draw(st.integers(0, 9))
    for number in range(flat.count):
        patch, top, left = atlas.around(flat, 0, flat.core(number), halo, 0)
        same, *place = wrapped.around(number, halo)
        assert (patch.height, patch.width, top, left) == (same.height, same.width, *place)
        assert set(patch.pieces()) == set(same.pieces())


def middle(atlas: Atlas, y: int, x: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where the middle of a cell of a cube's canvas lies in space, the cube's edge being 2."""
    face = atlas.face_at(y, x)
    assert face is not None
    box = atlas.faces[face].box
    across, down, out = (np.array(way) for way in CUBE[atlas.faces[face].name])
    return out + across * (2 * (x - box.x0 + 0.5) / box.width - 1) + down * (2 * (y - box.y0 + 0.5) / box.height - 1)


@settings(deadline=None)
@given(sides)
def test_neighbours_over_seams_of_a_cube_are_neighbours_in_space(cells: int) -> None:
    atlas = cube(cells)
    assert len(atlas.joins) == 12
    assert {side for join in atlas.joins for side in (*join.one, *join.other)} == {
        (face, edge) for face in range(6) for edge in QUARTERS
    }
    for join in atlas.joins:
        for y, x in edge_cells(atlas, join.one[0]):
            there = atlas.cross(join.one[0], join.other[0], y, x)
            # Half a cell on either side of an edge, at a right angle.
            apart = np.linalg.norm(middle(atlas, y, x) - middle(atlas, *there))
            assert apart == pytest.approx(2**0.5 / cells)


@settings(deadline=None)
@given(sides, sides, st.data())
def test_beyond_a_pole_lies_the_other_side_of_the_sphere(height: int, half: int, data: st.DataObject) -> None:
    width = 2 * half
    atlas = equirectangular(height, width)
    tiling = data.draw(tilings(atlas))
    x, wide = data.draw(st.integers(-width, width)), data.draw(st.integers(1, width))
    for y, rows in ((-3, [2, 1, 0, 0, 1, 2]), (height - 3, [height - 3, height - 2, height - 1] * 2)):
        seen = shown(6, wide, atlas.patch(tiling, 0, y, x, 6, wide, 0).pieces())
        if y > 0:
            rows[3:] = [height - 1, height - 2, height - 3]
        assert (seen // 1000).tolist() == [[row] * wide for row in rows]
        beyond = slice(0, 3) if y < 0 else slice(3, 6)
        columns = (x + np.arange(wide)) % width
        assert (seen[3 if y < 0 else 0] % 1000).tolist() == columns.tolist()
        assert ((seen[beyond] % 1000) == (columns + half) % width).all()


@settings(deadline=None)
@given(sides, st.data())
def test_no_patch_holds_a_corner_of_a_cube(cells: int, data: st.DataObject) -> None:
    atlas = cube(cells)
    face = data.draw(st.integers(0, 5))
    y, x = data.draw(st.integers(1, cells - 1)), data.draw(st.integers(1, cells - 1))
    for corner in ((-y, -x), (-y, x), (y, -x), (y, x)):
        with pytest.raises(Vertex):
            atlas.parts(face, *corner, cells, cells, 0)


@settings(deadline=None)
@given(atlases, st.integers(0, 9), st.integers(0, 9), st.data())
def test_what_is_around_a_box_is_a_full_rectangle_with_the_box_where_it_says(
    atlas: Atlas, halo: int, step: int, data: st.DataObject
) -> None:
    tiling = data.draw(tilings(atlas))
    face = data.draw(st.integers(0, len(atlas.faces) - 1))
    whole = atlas.faces[face].box
    y0, x0 = data.draw(st.integers(whole.y0, whole.y1 - 1)), data.draw(st.integers(whole.x0, whole.x1 - 1))
    box = Box(y0, data.draw(st.integers(y0 + 1, whole.y1)), x0, data.draw(st.integers(x0 + 1, whole.x1)))
    patch, top, left = atlas.around(tiling, face, box, halo, step)
    seen = shown(patch.height, patch.width, patch.pieces())
    assert np.array_equal(
        seen[top : top + box.height, left : left + box.width],
        np.arange(box.y0, box.y1)[:, None] * 1000 + np.arange(box.x0, box.x1),
    )
    names = ("top", "left", "bottom", "right")
    room = (box.y0 - whole.y0, box.x0 - whole.x0, whole.y1 - box.y1, whole.x1 - box.x1)
    grown = (top, left, patch.height - box.height - top, patch.width - box.width - left)
    for name, free, more in zip(names, room, grown, strict=True):
        assert more == (halo if atlas.partner((face, name), step) else min(halo, free))


@settings(deadline=None)
@given(atlases, st.data())
def test_gaps_and_faces_make_up_the_canvas(atlas: Atlas, data: st.DataObject) -> None:
    tiling = data.draw(tilings(atlas))
    counted = np.zeros((tiling.y.cells, tiling.x.cells), dtype=int)
    for y0, y1, x0, x1 in (*atlas.gaps(tiling), *(face.box for face in atlas.faces)):
        counted[y0:y1, x0:x1] += 1
    assert (counted == 1).all()


@settings(deadline=None)
@given(tilesets())
def test_strips_next_to_sides_that_are_alike_are_alike_when_turned_to_one_another(atlas: Atlas) -> None:
    """All cells next to such a side have twins in all others; those of corner squares have others' twins as well."""
    depth = atlas.strip
    for group in (group for join in atlas.joins for group in {join.one, join.other}):
        for one in group:
            box = _strip(atlas, one)
            twins = {(y, x): set() for y, x in _cells(box)}
            for part, twin, turn in atlas.twins(box):
                there = apply(
                    turn, np.array([[y * 1000 + x for x in range(twin.x0, twin.x1)] for y in range(*twin[:2])])
                )
                for y, x in _cells(part):
                    twins[y, x].add(divmod(int(there[y - part.y0, x - part.x0]), 1000))
            length = atlas.length(one)
            for k, cell in enumerate(_clockwise(atlas, one)):
                expected = {_clockwise(atlas, other)[k] for other in group if other != one}
                assert twins[cell] == expected if depth <= k < length - depth else twins[cell] >= expected


@settings(deadline=None)
@given(tilesets())
def test_what_is_the_same_has_one_origin(atlas: Atlas) -> None:
    for face in atlas.faces:
        origins = atlas.origin(face.box)
        assert sorted(cell for copy in origins for cell in _cells(copy.part)) == sorted(_cells(face.box))
        for copy in origins:
            assert [(c.part, c.box, c.turn) for c in atlas.origin(copy.box)] == [(copy.box, copy.box, 0)]
            for part, twin, turn in atlas.twins(copy.part):
                (other,) = atlas.origin(twin)
                assert part == copy.part
                assert (other.box, compose(other.turn, turn)) == (copy.box, copy.turn)


@settings(deadline=None)
@given(tilesets())
def test_what_is_the_same_in_strips_is_the_same_in_deeper_ones(atlas: Atlas) -> None:
    """Turned alike, too: so strips may become shallower from step to step, and cells in them stay the same."""
    assert atlas.graded[0] is atlas
    assert len(atlas.graded) <= 1 + (DEEPER - 1) * atlas.strip
    whole = atlas.graded[-1]
    for shallow, deep in pairwise(atlas.graded):
        assert (deep.faces, deep.joins, deep.strip) == (atlas.faces, atlas.joins, shallow.strip + 1)
        for face in atlas.faces:
            for copy in shallow.twins(face.box):
                here, there = _origins(whole, copy.part), _origins(whole, copy.box)
                assert np.array_equal(here, apply(copy.turn, there))


@settings(deadline=None)
@given(atlases)
def test_strips_of_sides_that_are_like_no_other_have_one_depth(atlas: Atlas) -> None:
    alike = any(len(group) > 1 for join in atlas.joins for group in (join.one, join.other))
    assert (atlas.graded == (atlas,)) or alike


@settings(deadline=None)
@given(atlases)
def test_sides_with_one_partner_have_no_twins(atlas: Atlas) -> None:
    if all(len(group) == 1 for join in atlas.joins for group in (join.one, join.other)):
        assert all(not atlas.twins(face.box) for face in atlas.faces)


@settings(deadline=None)
@given(st.integers(2, 8), st.sampled_from([2, 4]))
def test_a_scaled_atlas_is_the_atlas_of_the_smaller_canvas(half: int, divisor: int) -> None:
    for form in (cube, lambda cells: equirectangular(cells, 2 * cells), lambda cells: torus(cells, 3 * cells)):
        small, large = form(2 * half), form(2 * half * divisor).scaled(divisor)
        assert (small.faces, small.joins) == (large.faces, large.joins)
    with pytest.raises(InvalidRequest, match=r"multiples of 2 cells"):
        cube(2 * half + 1).scaled(2)


def test_seams_that_do_not_fit_are_refused() -> None:
    faces = (Face("a", Box(0, 8, 0, 8)), Face("b", Box(0, 8, 8, 18)))
    for joins, words in (
        ([Join(((0, "top"),), ((1, "top"),))], "different lengths"),
        ([Join(((0, "top"),), ((0, "left"),)), Join(((0, "top"),), ((0, "right"),))], "one seam only"),
        ([Join(((0, "top"), (0, "left")), ((0, "top"),))], "one seam only"),
        ([Join(((0, "top"), (0, "top")), ((0, "left"),))], "named twice"),
        ([Join(((0, "top"),), ((0, "top"),), mirrored=True, shift=3)], "half way"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            Atlas(faces, tuple(joins))
    with pytest.raises(InvalidRequest, match="even number"):
        equirectangular(8, 15)
    with pytest.raises(InvalidRequest, match="at least 10 cells"):
        _ = Atlas(faces, (Join(((0, "left"), (0, "right")), ((0, "top"),)),), strip=5).strips


def _cells(box: Box) -> list[tuple[int, int]]:
    return [(y, x) for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)]


def _clockwise(atlas: Atlas, side: tuple[int, str]) -> list[tuple[int, int]]:
    cells = list(edge_cells(atlas, side))  # type: ignore[arg-type]
    return cells if side[1] in ("top", "right") else cells[::-1]


def _strip(atlas: Atlas, side: tuple[int, str]) -> Box:
    cells = list(edge_cells(atlas, side))  # type: ignore[arg-type]
    return Box(cells[0][0], cells[-1][0] + 1, cells[0][1], cells[-1][1] + 1)


def _origins(atlas: Atlas, box: Box) -> NDArray[np.int64]:
    """The number of the cell that every cell of a box repeats."""
    found = np.full((box.height, box.width), -1)
    for part, there, turn in atlas.origin(box):
        cells = np.arange(there.y0, there.y1)[:, None] * 1000 + np.arange(there.x0, there.x1)
        place = part.shift(-box.y0, -box.x0)
        found[place.y0 : place.y1, place.x0 : place.x1] = apply(turn, cells)
    return found
