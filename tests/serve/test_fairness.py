"""Shares of workers: nobody is left out who need not be, nobody gets more than they can use, turns come round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.serve.fairness import QUANTUM, Ledger, Rate, Wish, shares, weight

WISHES = st.lists(
    st.builds(
        Wish,
        id=st.uuids().map(str),
        owner=st.sampled_from("abc"),
        useful=st.integers(1, 12),
        held=st.integers(0, 4),
        used=st.floats(0, 1e4),
        priority=st.integers(-10, 10),
    ),
    max_size=12,
    unique_by=lambda wish: wish.id,
)


@given(WISHES, st.integers(0, 40), st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e5)))
def test_all_workers_are_dealt_as_far_as_there_is_work(
    wishes: list[Wish], workers: int, charged: dict[str, float]
) -> None:
    dealt = shares(wishes, charged, workers, 10.0)
    assert set(dealt) == {wish.id for wish in wishes}
    assert all(0 <= dealt[wish.id] <= wish.useful for wish in wishes)
    assert sum(dealt.values()) == min(workers, sum(wish.useful for wish in wishes))
    if workers >= len(wishes) and len({wish.owner for wish in wishes}) == len(wishes):
        assert all(dealt.values()), "a render without a worker though there are enough"


@given(WISHES, st.integers(1, 40))
def test_owners_are_equal_whatever_they_send(wishes: list[Wish], workers: int) -> None:
    dealt = shares(wishes, {}, workers, 10.0)
    of = {owner: sum(dealt[wish.id] for wish in wishes if wish.owner == owner) for owner in "abc"}
    could = {owner: sum(wish.useful for wish in wishes if wish.owner == owner) for owner in "abc"}
    for one in "abc":
        for other in "abc":
            if of[one] < could[one]:
                assert of[other] <= of[one] + 1, "more than one who could use them too"


def test_priority_is_worth_workers() -> None:
    wishes = [Wish("a", "x", 100, priority=3), Wish("b", "x", 100)]
    dealt = shares(wishes, {}, 30, 10.0)
    assert dealt == {"a": 20, "b": 10}
    assert weight(3) == 2 * weight(0)


def test_a_light_render_gets_a_worker_of_the_heavy_one_that_has_all() -> None:
    wishes = [Wish("1", "x", 64, held=4, used=1e6), Wish("2", "x", 1)]
    assert shares(wishes, {"x": 1e6}, 4, 10.0) == {"1": 3, "2": 1}


@given(st.integers(2, 6), st.integers(1, 3), st.integers(20, 60))
def test_turns_come_round(renders: int, workers: int, rounds: int) -> None:
    """Each round those who have a worker do a quantum's third; after all rounds nobody is far ahead."""
    quantum, ledger = 9.0, Ledger()
    owners = {f"{number}": "xy"[number % 2] for number in range(renders)}
    for id, owner in owners.items():
        ledger.enter(id, owner)
    held = dict.fromkeys(owners, 0)
    changes = 0
    for _ in range(rounds * renders):
        wishes = [Wish(id, owners[id], 1, held[id], ledger.renders[id]) for id in owners]
        dealt = shares(wishes, ledger.owners, workers, quantum)
        changes += sum(dealt[id] != held[id] for id in owners)
        held = dealt
        for id, count in held.items():
            ledger.charge(id, count * quantum / 3)
    for owner in "xy":
        mine = [ledger.renders[id] for id in owners if owners[id] == owner]
        assert max(mine, default=0) - min(mine, default=0) <= 2 * quantum
    if workers < renders:
        assert changes <= 2 * workers * rounds * renders / 3 + 2 * renders, (
            "workers are moved more often than each quantum"
        )


def test_being_away_is_no_credit() -> None:
    ledger = Ledger()
    ledger.enter("1", "x")
    ledger.charge("1", 1000.0)
    ledger.enter("2", "y")
    assert ledger.owners["y"] == 1000.0
    ledger.leave("2")
    ledger.charge("1", 500.0)
    ledger.enter("3", "y")
    assert ledger.owners["y"] == 1500.0
    ledger.enter("4", "x")
    assert ledger.renders["4"] == 1500.0


def test_a_turn_is_some_seconds_of_one_worker_at_the_rate_of_late() -> None:
    rate = Rate(0.0)
    assert rate.quantum == 1.0
    for second in range(1, 400):
        rate.add(30.0, float(second), workers=3)
    assert rate.quantum == pytest.approx(10 * QUANTUM, rel=1e-3)
    rate.begin(10_000.0)  # the night does not count
    rate.add(10.0, 10_001.0, workers=1)
    assert rate.quantum == pytest.approx(10 * QUANTUM, rel=1e-3)
    rate.add(0.0, 10_001.0 + QUANTUM, workers=1)
    assert rate.quantum == pytest.approx(5 * QUANTUM, rel=1e-3)
    rate.add(5.0, 10_001.0 + QUANTUM, workers=1)  # no time has gone by: no rate
    assert rate.quantum == pytest.approx(5 * QUANTUM, rel=1e-3)
