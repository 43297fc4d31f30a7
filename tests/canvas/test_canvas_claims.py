"""A canvas is taken over from the dead and never from the living, and of many claimants by one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from canvas_parts import SMALL, head, owner

from raytile.canvas import store
from raytile.canvas.bytes import Bytes
from raytile.canvas.claims import ask_cancel, claim, claim_head
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.headstore import HeadStore
from raytile.errors import CanvasError


class Time:
    """A clock that only sleeping moves; `then` runs once it has come to a moment."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[tuple[float, object]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            act = self.events.pop(0)[1]
            assert callable(act)
            act()


@pytest.fixture
def time() -> Time:
    return Time()


def made(place: Path, **changes: object) -> store.Canvas:
    return store.create(place / "a.zarr", SMALL, head(**changes))


def beat(canvas: store.Canvas) -> None:
    canvas.commit(lambda found: found.but(beat=found.beat + 1))


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_has_ended_is_taken_at_once(tmp_path: Path, time: Time, state: str) -> None:
    old = made(tmp_path, state=state, error="a reason", cancel_asked=True, step=2)
    mine = claim(old.path, owner("t1"), clock=time.clock, sleep=time.sleep, lease=7.0)
    assert time.now == 100.0
    found = mine.head()
    assert found == head(owner=owner("t1"), state="running", step=2, claims=1, lease=7.0)
    mine.commit(lambda found: found.but(step=3))
    with pytest.raises(HeadConflict, match=r"now belongs to process \d+ on here"):
        old.commit(lambda found: found.but(step=9))
    assert mine.head().step == 3


def test_a_dead_owner_is_waited_for_a_whole_lease(tmp_path: Path, time: Time) -> None:
    old = made(tmp_path, lease=12.0)
    waits: list[float] = []
    mine = claim(old.path, owner("t1"), clock=time.clock, sleep=time.sleep, on_wait=lambda _, left: waits.append(left))
    assert time.now == pytest.approx(112.0)
    assert waits[0] == 12.0
    assert waits == sorted(waits, reverse=True)
    assert (mine.head().owner.token, mine.head().claims, mine.head().lease) == ("t1", 1, 12.0)


def test_a_live_owner_keeps_its_canvas(tmp_path: Path, time: Time) -> None:
    live = made(tmp_path, owner=owner("t0", host="node-a", pid=4321))
    time.events = [(114.0, lambda: beat(live))]
    with pytest.raises(CanvasError, match="rendered by process 4321 on node-a: wait for it, or stop it"):
        claim(live.path, owner("t1"), clock=time.clock, sleep=time.sleep)
    assert live.head().owner.token == "t0"


def test_an_owner_that_ends_meanwhile_is_followed(tmp_path: Path, time: Time) -> None:
    live = made(tmp_path)
    time.events = [(103.0, lambda: live.commit(lambda found: found.but(state="failed", error="why")))]
    assert claim(live.path, owner("t1"), clock=time.clock, sleep=time.sleep).head().owner.token == "t1"
    assert time.now < 105.0


def test_a_wish_to_cancel_is_no_sign_of_life(tmp_path: Path, time: Time) -> None:
    dead = made(tmp_path)
    other = store.open(dead.path)
    time.events = [(105.0, lambda: other.commit(lambda found: found.but(cancel_asked=True)))]
    mine = claim(dead.path, owner("t1"), clock=time.clock, sleep=time.sleep)
    assert (mine.head().owner.token, mine.head().cancel_asked) == ("t1", False)
    assert time.now >= 120.0


def test_a_finished_canvas_is_not_claimed(tmp_path: Path, time: Time) -> None:
    made(tmp_path, state="finished")
    assert claim(tmp_path / "a.zarr", owner("t1"), clock=time.clock, sleep=time.sleep).head() == head(state="finished")
    with pytest.raises(CanvasError, match="is finished: there is nothing to cancel"):
        ask_cancel(tmp_path / "a.zarr", clock=time.clock, sleep=time.sleep)


def test_cancel_of_a_dead_run_is_done_here(tmp_path: Path, time: Time) -> None:
    made(tmp_path)
    found = ask_cancel(tmp_path / "a.zarr", clock=time.clock, sleep=time.sleep)
    assert found == store.open(tmp_path / "a.zarr").head() == head(state="cancelled", cancel_asked=True)
    assert time.now == pytest.approx(115.0)
    assert ask_cancel(tmp_path / "a.zarr", clock=time.clock, sleep=time.sleep) == found


def test_cancel_of_a_live_run_waits_until_it_has_stopped(tmp_path: Path, time: Time) -> None:
    live = made(tmp_path)
    time.events = [
        (102.0, lambda: beat(live)),
        (104.0, lambda: live.commit(lambda found: found.but(state="cancelled"))),
    ]
    found = ask_cancel(live.path, clock=time.clock, sleep=time.sleep)
    assert (found.state, found.beat, found.cancel_asked) == ("cancelled", 1, True)
    assert time.now < 106.0


def test_cancel_does_not_wait_longer_than_a_lease_for_the_living(tmp_path: Path, time: Time) -> None:
    live = made(tmp_path)
    time.events = [(100.0 + 3 * turn, lambda: beat(live)) for turn in range(1, 9)]
    found = ask_cancel(live.path, clock=time.clock, sleep=time.sleep)
    assert (found.state, found.cancel_asked) == ("running", True)
    assert 115.0 <= time.now < 119.0


@pytest.mark.parametrize("state", ["failed", "running"])
def test_of_two_claimants_one_wins(objects: Bytes, state: str) -> None:
    heads = HeadStore(objects)
    tag = heads.create(head(state=state, owner=owner("dead", host="gone")))
    for turn in range(5):
        winner = race(heads, turn)
        found, tag = heads.read()
        assert (found.owner.token, found.claims) == (winner, turn + 1)
        tag = heads.swap(tag, found.but(state=state))


def race(heads: HeadStore, turn: int) -> str:
    """Two claims at the same time; the token of the one that won; the other was told of it."""
    together = threading.Barrier(2)
    won: list[tuple[Head, str]] = []

    def attempt(number: int) -> str | None:
        time = Time()

        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            while won:  # a winner lives: its head changes
                found, tag = won.pop()
                heads.swap(tag, found.but(beat=found.beat + 1))

        me = owner(f"round{turn}-{number}", host=f"host{number}")
        together.wait()
        try:
            won.append(claim_head(heads, me, clock=time.clock, sleep=sleep))
        except CanvasError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(attempt, range(2)))
    (winner,) = [number for number in range(2) if told[number] is None]
    assert f"on host{winner}" in str(told[1 - winner])
    return f"round{turn}-{winner}"
