"""Laws of shapes: a value belongs to its point alone; boxes, polygons and bounds agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raytile.plan.area import Period, cover, fills, near, touches, within
from raytile.plan.scene import Shape

HEIGHT, WIDTH = 40, 56
numbers = st.integers(-20, 60).map(lambda n: n / 2 + 0.25)  # no edge through the middle of a pixel
lengths = st.integers(1, 80).map(lambda n: n / 2)
feathers = st.sampled_from([0.0, 1.0, 3.5, 12.0])
periods = st.sampled_from([(None, None), (None, WIDTH), (HEIGHT, None), (HEIGHT, WIDTH)])
boxes = st.builds(
    lambda x, y, w, h, f: Shape(box=(x, y, w, h), feather=f), numbers, numbers, lengths, lengths, feathers
)
polygons = st.builds(
    lambda corners, f: Shape(polygon=tuple(corners), feather=f),
    st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6),
    feathers,
)
shapes = st.one_of(boxes, polygons)
Y, X = np.arange(HEIGHT)[:, None] + 0.5, np.arange(WIDTH) + 0.5


@st.composite
def parts(draw: st.DrawFn) -> tuple[slice, slice]:
    """Any rectangle of pixels."""
    y0, x0 = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    return slice(y0, draw(st.integers(y0 + 1, HEIGHT))), slice(x0, draw(st.integers(x0 + 1, WIDTH)))


@given(shapes, parts(), periods, st.booleans())
def test_what_a_point_has_does_not_depend_on_what_is_asked_beside_it(
    shape: Shape, part: tuple[slice, slice], period: Period, inward: bool
) -> None:
    whole = cover(shape, Y, X, period, inward)
    assert np.array_equal(cover(shape, Y[part[0]], X[part[1]], period, inward), whole[part])
    assert whole.min() >= 0
    assert whole.max() <= 1
    beside = near(shape, Y, X, 8, period)
    assert np.array_equal(near(shape, Y[part[0]], X[part[1]], 8, period), beside[part])
    assert beside[cover(shape, Y, X, period, inward=True) > 0].all()


@given(boxes, periods)
def test_a_box_is_the_polygon_of_its_corners(shape: Shape, period: Period) -> None:
    assert shape.box is not None
    x, y, w, h = shape.box
    same = Shape(polygon=((x, y), (x + w, y), (x + w, y + h), (x, y + h)), feather=shape.feather)
    one, other = (cover(each, Y, X, period, inward=True) for each in (shape, same))
    assert np.allclose(one, other, atol=1e-12)
    # Outside, a polygon's edge fades by distance and a box's by the farther axis: they differ beyond corners alone.
    one, other = (cover(each, Y, X, period) for each in (shape, same))
    assert (one >= other - 1e-12).all()
    if shape.feather == 0:
        assert np.array_equal(one, other)


@given(st.integers(-20, 14), st.integers(-20, 14), st.integers(1, 20), st.integers(1, 20), feathers)
def test_a_whole_turn_further_on_a_wrapped_picture_is_the_same_place(x: int, y: int, w: int, h: int, f: float) -> None:
    period = (HEIGHT, WIDTH)
    here = cover(Shape(box=(x, y, w, h), feather=f), Y, X, period)
    for dx, dy in ((WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)):
        assert np.array_equal(here, cover(Shape(box=(x + dx, y + dy, w, h), feather=f), Y, X, period))


def test_a_box_runs_on_beyond_the_side_of_a_wrapped_picture() -> None:
    beyond = Shape(box=(WIDTH - 6, 4, 16, 10), feather=4)
    wrapped, flat = cover(beyond, Y, X, (None, WIDTH)), cover(beyond, Y, X)
    unrolled = cover(beyond, Y, np.arange(2 * WIDTH) + 0.5)
    assert np.array_equal(wrapped, np.maximum(unrolled[:, :WIDTH], unrolled[:, WIDTH:]))
    assert wrapped[9, 3] == 1
    assert flat[9, 3] == 0
    # and one that begins before it is the same one
    assert np.array_equal(cover(Shape(box=(-6, 4, 16, 10), feather=4), Y, X, (None, WIDTH)), wrapped)


def test_the_edge_fades_over_the_feather() -> None:
    shape = Shape(box=(10, 10, 20, 20), feather=8)
    outwards, inwards = cover(shape, Y, X)[20], cover(shape, Y, X, inward=True)[20]
    assert np.allclose(outwards[6:14], (np.arange(8) + 0.5) / 8)
    assert outwards[5] == 0
    assert outwards[14] == 1
    assert np.allclose(inwards[10:18], (np.arange(8) + 0.5) / 8)
    assert inwards[9] == 0
    assert inwards[18] == 1


@given(shapes, parts(), periods)
def test_a_rectangle_that_a_shape_does_not_touch_has_nothing_of_it_and_one_that_it_fills_all(
    shape: Shape, part: tuple[slice, slice], period: Period
) -> None:
    rows, columns = part
    box = np.array([[rows.start, rows.stop, columns.start, columns.stop]], dtype=np.float64)
    found = cover(shape, Y[rows], X[columns], period)
    if not touches(shape, box, period)[0]:
        assert not found.any()
    if fills(shape, box)[0]:
        assert (found == 1).all()


@given(parts(), parts())
def test_within_says_whether_one_rectangle_holds_another(one: tuple[slice, slice], other: tuple[slice, slice]) -> None:
    box = np.array([[one[0].start, one[0].stop, one[1].start, one[1].stop]], dtype=np.float64)
    outer = (other[0].start, other[0].stop, other[1].start, other[1].stop)
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[other] = True
    assert within(box, outer)[0] == inside[one].all()


@given(st.lists(st.integers(0, 24), min_size=2, max_size=5, unique=True), st.sampled_from([0.0, 2.0]))
def test_between_boxes_side_by_side_there_is_no_gap(edges: list[int], feather: float) -> None:
    """Wherever their common edge lies, through the middles of cells too."""
    edges.sort()
    several = [Shape(box=(a, -20, b - a, 80), feather=feather) for a, b in pairwise(edges)]
    x = np.arange(1, 48) / 2
    between = (x >= edges[0] + feather) & (x <= edges[-1] - feather)
    total = np.sum([cover(shape, np.full(1, 10.0), x) for shape in several], axis=0)
    assert (total[between] >= 1 - 1e-12).all()


def test_masks_touch_everything_and_fill_nothing() -> None:
    mask = Shape.model_validate({"mask": {"path": "a.png"}})
    somewhere = np.array([[0.0, 8.0, 0.0, 8.0]])
    assert touches(mask, somewhere)[0]
    assert not fills(mask, somewhere)[0]
