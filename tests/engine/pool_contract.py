"""What every pool has to keep, whatever its workers are: one suite, run over each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from raytile.engine.pool import Outcome, Pool, Ref
from raytile.engine.ray.pool import RayPool
from raytile.errors import Abandoned, WorkerLost


class Clerk:
    """Stands in for a worker: does what it is told and writes it down."""

    def __init__(self, number: int, stopped: Callable[[], bool] = lambda: False) -> None:
        self.number, self.stopped = number, stopped
        self.done: list[Any] = []

    def note(self, word: Any, *_waited_for: Any) -> Any:
        self.done.append(word)
        return word

    def notes(self) -> list[Any]:
        return list(self.done)

    def split(self, *words: Any) -> list[Any]:
        return list(words)

    def settle(self) -> None:
        """It writes nothing in the background."""

    def fail(self) -> None:
        raise ValueError("no such word")

    def fade(self) -> None:
        raise WorkerLost("the device is gone")

    def nap(self, seconds: float, *_waited_for: Any) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stopped():
                raise Abandoned("woken up")
            time.sleep(0.01)


def outcomes(pool: Pool, refs: Iterable[Ref], seconds: float = 20.0) -> list[Outcome]:
    """What became of `refs`, in their order."""
    left, found = list(refs), {}
    order, end = list(left), time.monotonic() + seconds
    while left:
        assert time.monotonic() < end, f"{len(left)} calls never came through"
        for outcome in pool.wait(left, timeout=1.0):
            found[outcome.ref] = outcome
            left.remove(outcome.ref)
    return [found[ref] for ref in order]


def values(pool: Pool, refs: Iterable[Ref]) -> list[Any]:
    results = outcomes(pool, refs)
    assert [outcome.error for outcome in results] == [None] * len(results)
    return [outcome.value for outcome in results]


def employ(pool: RayPool) -> None:
    """Make every worker of a Ray pool a new `Clerk`."""
    import ray

    def become(actor: Any, number: int) -> None:
        actor._number, actor._worker = number, Clerk(number, actor._stopped)

    ray.get([pool._actors[number].__ray_call__.remote(become, number) for number in pool.workers()])


class Contract:
    """The tests; `pool` is a fixture of exactly three placed workers, each a `Clerk`, on which tests before may have
    worked."""

    def test_all_workers_have_a_place(self, pool: Pool) -> None:
        assert len(pool.workers()) == 3
        assert pool.placed() == pool.workers() == tuple(sorted(pool.workers()))

    def test_calls_on_a_worker_run_in_the_order_they_were_made(self, pool: Pool) -> None:
        a, b, _ = pool.workers()
        slow = last = pool.call(a, "nap", 0.2)[0]
        for word in range(40):
            # Some wait for another worker, some for nobody.
            (last,) = pool.call(b, "note", word, *([slow] if word % 3 == 0 else []))
        values(pool, [last])
        assert values(pool, pool.call(b, "notes")) == [list(range(40))]

    def test_results_go_from_worker_to_worker(self, pool: Pool) -> None:
        a, b, _ = pool.workers()
        first, second = pool.call(a, "split", "a", "b", returns=2)
        (word,) = pool.call(b, "note", second)
        assert values(pool, [word, first]) == ["b", "a"]

    def test_wait_gives_what_is_through_and_no_more(self, pool: Pool) -> None:
        assert pool.wait([], timeout=0) == []
        (word,) = pool.call(pool.workers()[0], "note", "now")
        assert [outcome.value for outcome in outcomes(pool, [word])] == ["now"]
        assert [outcome.ref for outcome in pool.wait([word], timeout=5)] == [word]

    def test_an_error_comes_as_itself_from_its_worker_and_from_those_that_took_its_result(self, pool: Pool) -> None:
        a, b, _ = workers = pool.workers()
        (failed,) = pool.call(a, "fail")
        (taker,) = pool.call(b, "note", failed)
        for outcome in outcomes(pool, [failed, taker]):
            assert isinstance(outcome.error, ValueError)
            assert str(outcome.error) == "no such word"
            assert outcome.lost is None
        assert pool.workers() == workers
        assert values(pool, pool.call(b, "notes")) == [[]]

    def test_a_worker_that_says_it_cannot_go_on_is_lost(self, pool: Pool) -> None:
        a, b, c = pool.workers()
        (faded,) = pool.call(b, "fade")
        (taker,) = pool.call(c, "note", faded)
        (taker_of_taker,) = pool.call(a, "note", taker)
        for outcome in outcomes(pool, [faded, taker, taker_of_taker]):
            assert isinstance(outcome.error, WorkerLost)
            assert "the device is gone" in str(outcome.error)
            assert outcome.lost == b
        assert pool.workers() == pool.placed() == (a, c)

    def test_a_call_on_a_worker_that_is_no_more_is_its_loss(self, pool: Pool) -> None:
        a, b, c = pool.workers()
        pool.release(b)
        first, second = pool.call(b, "split", 1, 2, returns=2)
        (taker,) = pool.call(a, "note", second)
        for outcome in outcomes(pool, [first, second, taker]):
            assert isinstance(outcome.error, WorkerLost)
            assert outcome.lost == b
        assert values(pool, pool.call(c, "note", "still here")) == ["still here"]

    def test_cancelled_calls_come_through_and_later_ones_run(self, pool: Pool) -> None:
        workers = pool.workers()
        naps = [pool.call(number, "nap", 0.2)[0] for number in workers]
        # Each waits for another one: none can begin before a nap ends.
        after = [pool.call(number, "note", "late", naps[k - 1])[0] for k, number in enumerate(workers)]
        pool.cancel([*naps, *after])
        later = [pool.call(number, "note", "later")[0] for number in workers]
        for outcome in outcomes(pool, [*naps, *after]):
            assert outcome.error is None or isinstance(outcome.error, Abandoned)
            assert outcome.lost is None
        assert values(pool, later) == ["later"] * 3

    def test_a_number_is_never_used_twice(self, pool: Pool) -> None:
        a, b, c = pool.workers()
        pool.release(c)
        assert pool.workers() == (a, b)
        (d,) = pool.hire(1)
        assert d > c
        pool.release(d)
        (e,) = pool.hire(1)
        assert e > d
        assert pool.workers() == (a, b, e)

    def test_nobody_leaves_unless_sent_away(self, pool: Pool) -> None:
        assert dict(pool.leaving()) == {}

    def test_close_ends_all_and_may_be_called_again(self, pool: Pool) -> None:
        pool.close()
        assert pool.workers() == pool.placed() == ()
        pool.close()
