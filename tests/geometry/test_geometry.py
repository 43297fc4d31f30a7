"""Laws of boxes, axes, tilings and topologies."""

from __future__ import annotations

import doctest
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.geometry import axis, box, tiling, topology
from raytile.geometry.axis import Axis, shifted_origins, strided_origins
from raytile.geometry.box import Box, disjoint
from raytile.geometry.tiling import Tiling
from raytile.geometry.topology import OPPOSITE, Topology

boxes = st.builds(
    lambda y, h, x, w: Box(y, y + h, x, x + w),
    st.integers(0, 12),
    st.integers(0, 6),
    st.integers(0, 12),
    st.integers(0, 6),
)
axes = st.builds(Axis, st.integers(1, 80), st.integers(1, 30), st.booleans())


def cells(area: Box) -> set[tuple[int, int]]:
    return {(y, x) for y in range(area.y0, area.y1) for x in range(area.x0, area.x1)}


@pytest.mark.parametrize("module", [axis, box, topology, tiling])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(boxes, boxes)
def test_intersection_is_what_both_hold(one: Box, other: Box) -> None:
    common = one.intersect(other)
    assert (cells(common) if common.area else set()) == cells(one) & cells(other)


@given(st.lists(boxes, max_size=8))
def test_disjoint_boxes_hold_each_cell_of_the_union_once_in_any_order(several: list[Box]) -> None:
    apart = disjoint(several)
    counted = Counter(cell for area in apart for cell in cells(area))
    assert set(counted.values()) <= {1}
    assert set(counted) == {cell for area in several for cell in cells(area)}
    assert disjoint(reversed(several)) == apart


@given(axes, st.data())
def test_segments_spell_out_the_stretch_in_order(axis: Axis, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 2 * axis.cells if axis.wrap else axis.cells))
    origin = data.draw(st.integers(-axis.cells, 2 * axis.cells) if axis.wrap else st.integers(0, axis.cells - length))
    found = [(s.at + i, s.start + i, s.tile) for s in axis.segments(origin, length) for i in range(s.stop - s.start)]
    assert [at for at, _, _ in found] == list(range(length))
    assert [cell for _, cell, _ in found] == [(origin + i) % axis.cells for i in range(length)]
    assert all(axis.core(tile)[0] <= cell < axis.core(tile)[1] for _, cell, tile in found)


@given(axes)
def test_cores_hold_each_cell_once(axis: Axis) -> None:
    assert [cell for tile in range(axis.tiles) for cell in range(*axis.core(tile))] == list(range(axis.cells))


@given(st.integers(1, 90), st.integers(1, 16), st.booleans(), st.data())
def test_windows_cover_every_cell_and_stay_inside(cells: int, window: int, wrap: bool, data: st.DataObject) -> None:
    axis = Axis(cells if wrap else max(cells, window), window, wrap)
    offset = data.draw(st.integers(0, window - 1))
    stride = data.draw(st.integers(1, window))
    for origins in (shifted_origins(axis, window, offset), strided_origins(axis, window, stride)):
        covered = {(o + i) % axis.cells for o in origins for i in range(window)}
        assert covered == set(range(axis.cells))
        assert list(origins) == sorted(set(origins))
        assert wrap or (origins[0] >= 0 and origins[-1] + window <= axis.cells)


@given(st.integers(1, 9), st.integers(1, 16), st.data())
def test_shifted_windows_cost_one_more_on_a_bounded_axis_and_none_on_a_wrapped_one(
    count: int, window: int, data: st.DataObject
) -> None:
    offset = data.draw(st.integers(0, window - 1))
    bounded = shifted_origins(Axis(count * window, window, wrap=False), window, offset)
    assert len(bounded) == (count + 1 if offset and count > 1 else count)
    assert len(shifted_origins(Axis(count * window, window, wrap=True), window, offset)) == count


@given(axes, axes, st.integers(0, 9), st.data())
def test_a_patch_around_a_tile_holds_its_core_where_it_says(y: Axis, x: Axis, halo: int, data: st.DataObject) -> None:
    whole = Tiling(y, x)
    tile = data.draw(st.integers(0, whole.count - 1))
    patch, top, left = whole.around(tile, halo)
    seen = {
        (p.y + i, p.x + j): (p.box.y0 + i, p.box.x0 + j)
        for p in patch.pieces()
        for i in range(p.box.height)
        for j in range(p.box.width)
    }
    assert len(seen) == patch.height * patch.width
    core = whole.core(tile)
    for row, column in cells(core):
        assert seen[top + row - core.y0, left + column - core.x0] == (row, column)


@given(
    st.booleans(), st.booleans(), st.sampled_from(sorted(OPPOSITE)), st.integers(1, 20), st.integers(1, 20), st.data()
)
def test_crossing_a_seam_and_coming_back_leads_home(
    wrap_y: bool, wrap_x: bool, side: topology.Side, height: int, width: int, data: st.DataObject
) -> None:
    sphere = Topology(wrap_y, wrap_x)
    along = data.draw(st.integers(0, (height if side in ("left", "right") else width) - 1))
    edge = {"left": (along, 0), "right": (along, width - 1), "top": (0, along), "bottom": (height - 1, along)}[side]
    there = sphere.cross(side, *edge, height, width)
    entered = sphere.partner(side)
    assert (there is None) == (entered is None) == (not (wrap_x if side in ("left", "right") else wrap_y))
    if there is not None and entered is not None:
        assert sphere.cross(entered, *there, height, width) == edge
        # The same crossing, seen by the windows: the cell after the last is the first.
        step = {"left": (0, -1), "right": (0, 1), "top": (-1, 0), "bottom": (1, 0)}[side]
        patch = Tiling(Axis(height, 3, wrap_y), Axis(width, 3, wrap_x)).patch(
            edge[0] + step[0], edge[1] + step[1], 1, 1
        )
        (piece,) = patch.pieces()
        assert (piece.box.y0, piece.box.x0) == there
