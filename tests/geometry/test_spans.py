"""What shifted windows speak of along an axis: every cell once, between lines that move."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from raytile.geometry.axis import Axis, shifted_origins, shifted_spans


@given(st.integers(1, 40), st.integers(0, 120), st.data())
def test_on_a_bounded_axis_windows_speak_of_every_cell_once_and_of_what_they_see(
    window: int, more: int, data: st.DataObject
) -> None:
    axis, offset = Axis(window + more, 64, wrap=False), data.draw(st.integers(0, window - 1))
    origins, spans = shifted_origins(axis, window, offset), shifted_spans(axis, window, offset)
    assert all(o <= start < stop <= o + window for o, (start, stop) in zip(origins, spans, strict=True))
    assert (spans[0][0], spans[-1][1]) == (0, axis.cells)
    assert all(one[1] == other[0] for one, other in pairwise(spans))


@given(st.integers(2, 40), st.integers(2, 6))
def test_no_line_between_windows_stays_where_it_is(window: int, times: int) -> None:
    axis = Axis(window * times, 64, wrap=False)
    lines = [{stop for _, stop in shifted_spans(axis, window, offset)[:-1]} for offset in range(window)]
    assert not set.intersection(*lines)
