"""Promises of a place: kept, for as many as were refused, whenever places come free as foretold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.serve.promises import KEPT, OVER, Promises


@given(st.integers(1, 6), st.integers(1, 12), st.floats(0.3, 9.0), st.booleans())
def test_whoever_comes_when_told_is_let_in(limit: int, refused: int, slot: float, named: bool) -> None:
    promises = Promises(100)
    waits = [promises.ask(0.0, f"n{n}" if named else None, limit, limit, slot) for n in range(refused)]
    assert None not in waits
    assert waits == sorted(waits)  # type: ignore[type-var]
    inside, left = limit, 0
    for name, wait in sorted(enumerate(waits), key=lambda each: each[1] or 0):
        now = float(wait or 0)
        while left < int(now / slot):  # a place came free every `slot`
            inside, left = inside - 1, left + 1
        assert promises.ask(now, f"n{name}" if named else None, max(0, inside), limit, slot) is None
        inside += 1


def test_who_comes_new_does_not_take_a_promised_place() -> None:
    promises = Promises(100)
    assert promises.ask(0.0, "a", 2, 2, 5.0) == 5
    assert promises.ask(4.0, "new", 1, 2, 5.0) == 6, "one place is free, and kept for a"
    assert promises.ask(5.0, "a", 1, 2, 5.0) is None


def test_who_comes_too_early_is_told_the_same_time() -> None:
    promises = Promises(100)
    assert promises.ask(0.0, "a", 2, 2, 5.0) == 5
    assert promises.ask(2.0, "a", 2, 2, 5.0) == 3


def test_a_promise_that_nobody_takes_is_kept_for_a_while() -> None:
    promises = Promises(100)
    assert promises.ask(0.0, "a", 1, 1, 5.0) == 5
    assert promises.ask(6.0, "b", 0, 1, 5.0) is not None
    assert promises.ask(5.0 + KEPT, "b", 0, 1, 5.0) is None


def test_a_promise_that_was_too_good_is_kept_up_to_a_point() -> None:
    for waiting, let_in in ((8, True), (int(8 * OVER), False)):
        promises = Promises(100)
        promises.ask(0.0, "a", 8, 8, 5.0)
        assert (promises.ask(5.0, "a", waiting, 8, 5.0) is None) == let_in


def test_whoever_asks_and_asks_is_promised_a_bounded_number() -> None:
    promises = Promises(3)
    waits = [promises.ask(0.0, None, 5, 5, 1.0) for _ in range(50)]
    assert waits[:3] == [1, 2, 3]
    assert set(waits[3:]) == {3}
    assert promises.ask(0.0, "other", 1, 5, 1.0) is None


@pytest.mark.parametrize("slot", [0.001, 1e9])
def test_waits_are_sensible(slot: float) -> None:
    wait = Promises(3).ask(0.0, None, 5, 5, slot)
    assert wait is not None
    assert 1 <= wait <= 3600
