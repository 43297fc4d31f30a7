"""The keeper commits what is posted, in order, keeps the lease, and stops for good when the canvas is another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from canvas_parts import SMALL, head, owner

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.claims import claim
from raytile.canvas.head import Head
from raytile.canvas.headstore import HeadStore
from raytile.canvas.keeper import CancelSeen, Committed, Keeper, News, Taken, Trouble
from raytile.errors import CanvasError


@pytest.fixture
def canvas(tmp_path: Path) -> Canvas:
    return store.create(tmp_path / "a.zarr", SMALL, head())


@pytest.fixture
def keepers() -> Iterator[Callable[..., Keeper]]:
    made: list[Keeper] = []

    def make(canvas: Canvas, period: float = 0.02) -> Keeper:
        made.append(Keeper(canvas, period=period, clock=lambda: 2000.0))
        return made[-1]

    yield make
    for keeper in made:
        keeper.close()


def until(found: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


def wait_news(keeper: Keeper, kind: type[News]) -> list[News]:
    seen: list[News] = []

    def came() -> bool:
        seen.extend(keeper.news())
        return any(isinstance(each, kind) for each in seen)

    until(came)
    return seen


def step(number: int, found: Head) -> Head:
    assert found.step == number - 1, "out of order"
    return found.but(step=number)


def test_posts_are_committed_in_order(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas, period=60.0)
    numbers = [keeper.post(partial(step, number)) for number in range(1, 41)]
    assert numbers == list(range(1, 41))
    assert keeper.flush(20)
    assert canvas.head().step == 40
    news = keeper.news()
    assert news[-1] == Committed(40)
    told = [each.number for each in news if isinstance(each, Committed)]
    assert told == sorted(set(told))
    assert keeper.news() == []
    assert canvas.head().updated == 2000.0


def test_several_posts_are_one_swap(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(found: Head) -> Head:
        begun.set()
        go.wait(20)
        return found

    keeper = keepers(canvas, period=60.0)
    until(lambda: canvas.head().beat == 1)
    keeper.post(slow)
    assert begun.wait(20)
    for number in range(1, 101):
        keeper.post(partial(step, number))
    go.set()
    assert keeper.flush(20)
    found = canvas.head()
    assert (found.step, found.beat) == (100, 3)  # the first heartbeat, the slow one, and all others at once


def test_heartbeats_keep_the_lease_and_end_with_the_run(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    until(lambda: canvas.head().beat > 3)
    keeper.post(lambda found: found.but(state="finished"))
    assert keeper.flush(20)
    last = canvas.head()
    time.sleep(0.1)
    assert canvas.head() == last


def test_a_wish_to_cancel_is_seen_once_and_kept(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    store.open(canvas.path).commit(lambda found: found.but(cancel_asked=True))
    assert wait_news(keeper, CancelSeen).count(CancelSeen()) == 1
    before = canvas.head().beat
    until(lambda: canvas.head().beat > before + 2)
    assert keeper.news() == []
    assert canvas.head().cancel_asked


def test_what_another_run_has_taken_is_left_alone(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    until(lambda: canvas.head().beat > 0)
    heads = HeadStore(canvas._objects)
    theirs = head(owner=owner("t1", host="node-b", pid=77), claims=1)
    heads._objects.write("head.json", theirs.to_bytes())
    (told,) = [each for each in wait_news(keeper, Taken) if isinstance(each, Taken)]
    assert "process 77 on node-b" in told.why
    keeper.post(lambda found: found.but(step=4))
    assert not keeper.flush(20)
    assert canvas.head() == theirs


def test_a_claim_fences_a_keeper_that_was_paused(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    canvas.commit(lambda found: found.but(lease=0.1))
    go, entered = threading.Event(), threading.Event()

    def paused(found: Head) -> Head:
        entered.set()
        go.wait(20)
        return found.but(step=1)

    keeper = keepers(canvas, period=60.0)
    keeper.post(paused)
    assert entered.wait(20)
    mine = claim(canvas.path, owner("t1"), clock=time.monotonic, sleep=time.sleep)
    go.set()
    wait_news(keeper, Taken)
    assert mine.head().step == 0
    mine.commit(lambda found: found.but(step=2))


def test_trouble_is_told_once_and_outlasted(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    until(lambda: canvas.head().beat > 0)
    path = Path(canvas.path)
    (path / "head.lock").unlink()
    (path / "head.lock").mkdir()
    keeper.post(lambda found: found.but(step=3))
    (told,) = [each for each in wait_news(keeper, Trouble) if isinstance(each, Trouble)]
    assert told.why.startswith("cannot write")
    assert not keeper.flush(0.6)
    assert keeper.news() == []
    (path / "head.lock").rmdir()
    assert keeper.flush(20)
    assert Committed(1) in keeper.news()
    assert canvas.head().step == 3


def test_a_change_that_raises_is_not_passed_over(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    keeper.post(lambda found: found.but(step=-1))
    with pytest.raises(ValueError, match="step"):
        keeper.flush(20)
    with pytest.raises(ValueError, match="step"):
        keeper.news()


def test_close_is_quick_and_final(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(canvas)
    until(lambda: canvas.head().beat > 0)
    keeper.close()
    last = canvas.head()
    keeper.post(lambda found: found.but(step=4))
    assert not keeper.flush(0.1)
    assert canvas.head() == last


def test_only_who_holds_a_canvas_keeps_it(canvas: Canvas, keepers: Callable[..., Keeper]) -> None:
    keeper = keepers(Canvas(canvas.path, canvas.layout))
    (told,) = [each for each in wait_news(keeper, Trouble) if isinstance(each, Trouble)]
    assert "only the driver" in told.why
    assert isinstance(CanvasError(told.why), CanvasError)
