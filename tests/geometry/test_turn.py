"""Laws of turns, held against numpy's own flips and quarter turns."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raytile.geometry import turn as turning
from raytile.geometry.turn import MIRROR, TURNS, compose, extent, inverse, place, places

turns = st.integers(0, TURNS - 1)


def apply(turn: int, values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.rot90(np.flip(values, -1) if turn >= MIRROR else values, turn % 4, (-2, -1))


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    """A box's height and width, and a part of it that is not empty."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return height, width, (y0, draw(st.integers(y0 + 1, height)), x0, draw(st.integers(x0 + 1, width)))


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(turning).failed == 0


def test_the_eight_turns_differ_and_nothing_is_turn_0() -> None:
    square = np.arange(4).reshape(2, 2)
    assert len({apply(turn, square).tobytes() for turn in range(TURNS)}) == TURNS
    assert (apply(0, square) == square).all()


@given(turns, turns, parts())
def test_composed_turns_are_one_after_the_other(first: int, then: int, part: tuple[int, int, tuple[int, ...]]) -> None:
    values = np.arange(part[0] * part[1]).reshape(part[:2])
    both = apply(compose(first, then), values)
    assert np.array_equal(both, apply(then, apply(first, values)))
    assert np.array_equal(apply(inverse(then), both), apply(first, values))


@given(turns, parts())
def test_a_part_begins_where_numpy_finds_it(turn: int, part: tuple[int, int, tuple[int, int, int, int]]) -> None:
    height, width, (y0, y1, x0, x1) = part
    values = np.arange(height * width).reshape(height, width)
    whole, cut = apply(turn, values), apply(turn, values[y0:y1, x0:x1])
    assert whole.shape == extent(turn, height, width)
    y, x = place(turn, height, width, (y0, y1, x0, x1))
    assert np.array_equal(whole[y : y + cut.shape[0], x : x + cut.shape[1]], cut)


@given(st.lists(st.tuples(turns, parts()), min_size=1))
def test_many_parts_begin_where_each_does(many: list[tuple[int, tuple[int, int, tuple[int, int, int, int]]]]) -> None:
    found = places(
        np.array([turn for turn, _ in many]),
        np.array([part[:2] for _, part in many]),
        np.array([part[2] for _, part in many]),
    )
    assert found.tolist() == [list(place(turn, *part)) for turn, part in many]
