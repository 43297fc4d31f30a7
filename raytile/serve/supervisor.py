"""The queue and the workers: which renders are open, and who paints which. No Ray here: see `Stage`."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from raytile.errors import RaytileError, first_line
from raytile.meter import Book
from raytile.serve.desk import expired
from raytile.serve.errors import NotFound
from raytile.serve.fairness import Ledger, Rate, Wish, shares
from raytile.serve.leases import Leases
from raytile.serve.painting import Result, claimed, finish, tell
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings
from raytile.serve.stage import Came, Closed, News, Progress, Returned, Stage, Went

LOG = logging.getLogger("raytile.serve")
DEATHS = 5
"""How often the driver of a render may die."""
LATER, LATEST, TRIES = 5.0, 60.0, 60
"""Seconds after which a render is tried again that could not be had: the first time, at most; and how often."""
HANGS = 300.0
"""Seconds in which a render gives back a worker that is called back, or ends when it is asked to."""
STALLED = 15.0
"""Seconds without a round after which a supervisor is not ready."""
READERS = 8
"""Records that are read at once."""
SWEEP = 600.0
"""Seconds between two looks for renders that are kept no longer."""
ROUND = 1.0
"""Seconds between two looks at the queue when nobody pokes."""
State = Literal["coming", "idle", "lent", "resting"]


@dataclass
class Worker:
    state: State = "coming"
    since: float = 0.0
    called_back: float | None = None


@dataclass
class Open:
    """A render with a driver. `share`: how far it is, None until it has said so; `workers`: keys of those it has. It
    was asked to end at `stopping`; until `until` it can use no more than `most` workers."""

    record: Record
    share: float | None = None
    stopping: float | None = None
    most: int = 0
    until: float = 0.0
    workers: set[int] = field(default_factory=set)


class Supervisor:
    """Opens renders of the queue, lends workers to them, moves workers between them.

    The queue is in the store, and so is who holds what: after a restart all goes on. `token` names this service there;
    another's renders are left alone while it shows signs of life. `book` gets what metrics show; `clock`: seconds that
    only go forward."""

    def __init__(
        self, settings: Settings, records: Records, stage: Stage, token: str, book: Book, clock: Callable[[], float]
    ) -> None:
        self._book = book
        self._settings, self._records, self._stage, self._token, self._clock = settings, records, stage, token, clock
        self._workers: dict[int, Worker] = {}
        self._open: dict[str, Open] = {}
        self._waiting: dict[str, Record] = {}
        self._later: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._tries: dict[str, int] = {}
        self._ledger = Ledger()
        self._leases = Leases(records, token, settings.lease, clock)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="records")
        self._looked = self._swept = -1e9
        self._hiring = self._turned = clock()
        self._rate = Rate(clock())
        self._paid = clock()
        self._said = self._state()

    # -- one round

    def round(self, poked: bool) -> None:
        """Take in what has happened, look at the queue, deal workers out."""
        now = self._clock()
        for news in self._stage.news():
            try:
                self._take(news)
            except Exception:  # what comes after it has happened, too
                LOG.exception("%s could not be taken in", news)
        if poked or now - self._looked > ROUND:
            self._looked = now
            self._look()
        self._deal()
        self._stage.idle(self._settings.warm_idle_s)
        if now - self._swept > SWEEP:
            self._swept = now
            self._readers.submit(self._sweep)
        self._said = self._state()

    def stats(self) -> dict[str, Any]:
        """For `/v1/stats`, as the last round left it; `ready`: that was not long ago. Thread-safe."""
        return {**self._said, "ready": self._clock() - self._turned < STALLED}

    def _sweep(self) -> None:
        try:
            self._leases.forget()
            if self._settings.retain_s is not None:
                expired(self._records, self._settings.retain_s)
        except RaytileError as error:
            LOG.warning("what is kept no longer could not be removed: %s", first_line(error))

    def _state(self) -> dict[str, Any]:
        self._turned = now = self._clock()
        states = [worker.state for worker in self._workers.values()]
        working = sum(1 for one in self._open.values() if one.workers)
        queued, resting = len(self._waiting), len(self._open) - working
        idle, coming = states.count("idle") + states.count("resting"), states.count("coming")
        for state, renders in (("queued", queued), ("running", working), ("resting", resting)):
            self._book.gauge("raytile_renders", renders, state=state)
        for state, workers in (("working", states.count("lent")), ("idle", idle), ("coming", coming)):
            self._book.gauge("raytile_workers", workers, state=state)
        if self._settings.price_per_worker_hour is not None:
            hours, self._paid = (now - self._paid) / 3600 * (len(states) - coming), now
            self._book.count("raytile_cost_total", hours * self._settings.price_per_worker_hour)
        return {
            "where": "ray",
            "service": self._token,
            "workers": len(states) - coming,
            "coming": coming,
            "idle": states.count("idle"),
            "running": len(self._open),
            "resting": resting,
        }

    def beat(self, number: int) -> None:
        """A sign of life for other services on this store, however long a round takes."""
        self._leases.beat(number)

    def leave(self) -> None:
        """This service ends: whoever shares the store need not wait for a lease."""
        self._leases.leave()

    # -- what has happened

    def _take(self, news: News) -> None:
        now = self._clock()
        match news:
            case Came(key) if key in self._workers:
                self._workers[key] = Worker("idle", now)
            case Went(key):
                worker = self._workers.pop(key, None)
                for one in self._open.values():
                    one.workers.discard(key)
                if worker is not None and worker.state == "coming":  # it would not come up the next time either
                    self._hiring = now + LATER
            case Returned(id, key, fit) if id in self._open and key in self._open[id].workers:
                one = self._open[id]
                one.workers.discard(key)
                asked_back = self._workers[key].called_back is not None or key in self._stage.leaving()
                if fit and not asked_back:  # it has no work for more than these
                    one.most, one.until = len(one.workers), now + LATER
                self._put_away(key, fit)
            case Progress(id, share) if id in self._open:
                one = self._open[id]
                more = 0.0 if one.share is None else max(0.0, share - one.share) * one.record.evaluations
                one.share = max(one.share or 0.0, share)
                self._ledger.charge(id, more)
                self._rate.add(more, self._clock(), self._lent())
            case Closed(id, result) if id in self._open:
                self._close(self._open.pop(id), result)

    def _put_away(self, key: int, fit: bool) -> None:
        if fit:
            self._workers[key] = Worker("resting", self._clock())
            self._stage.rest(key)
        else:
            del self._workers[key]
            self._stage.dismiss(key)

    def _close(self, one: Open, result: Result | None) -> None:
        id = one.record.id
        for key in one.workers & self._workers.keys():
            self._put_away(key, True)  # its driver died with them in hand; a call of it does nothing any more
        self._looked = -1e9
        if result == "later":
            self._try_later(one)
        elif result is None:
            self._deaths[id] = self._deaths.get(id, 0) + 1
            LOG.warning("the driver of render %s died (%d of %d)", id, self._deaths[id], DEATHS)
            if self._deaths[id] >= DEATHS:
                self._end(one, f"its driver died {DEATHS} times")
        elif result != "left":
            self._ended(one.record, result)
            self._forget(id)

    def _try_later(self, one: Open) -> None:
        """It cannot be had now: after a pause that grows, and not for ever."""
        id = one.record.id
        self._tries[id] = tries = self._tries.get(id, 0) + 1
        self._later[id] = self._clock() + min(LATER * 2 ** (tries - 1), LATEST)
        if tries > TRIES:
            self._end(one, f"the store did not do its part {tries} times")

    def _end(self, one: Open, error: str) -> None:
        """End a render here; while the store is away it is opened once more, and ended after that."""
        finish(self._records, one.record, {"state": "failed", "error": error})
        self._ended(one.record, "failed")
        self._forget(one.record.id)

    def _ended(self, record: Record, state: str) -> None:
        """Tell of the end of a render that was claimed."""
        seconds = self._records.clock() - (record.started or record.created)
        self._book.count("raytile_renders_ended_total", state=state)
        self._book.observe("raytile_render_seconds", seconds, state=state)

    def _forget(self, id: str) -> None:
        self._ledger.leave(id)
        for table in (self._deaths, self._tries, self._later):
            table.pop(id, None)

    # -- the queue

    def _look(self) -> None:
        """Read what is queued and not known yet: a render that waits changes only by being claimed, which a claim finds
        out, or by being ended, which takes it out of the queue. And look whether those that are open shall end."""
        ids = self._records.queued_ids()
        for id in self._waiting.keys() - set(ids):
            del self._waiting[id]
            if id not in self._open:
                self._forget(id)
        held = {id for id, record in self._waiting.items() if record.service is not None}  # their holder may be at work
        unknown = [id for id in ids if id not in self._waiting or id in held]
        for record in self._readers.map(self._read, unknown):
            if record is None:
                continue
            if record.terminal:  # whoever ended it died before it was out of the queue
                with suppress(RaytileError):
                    self._records.change(record.id, lambda _: None)
            elif record.id in self._open:
                self._heed(self._open[record.id], record)
            else:
                self._waiting[record.id] = record
        self._leases.listen(self._waiting.values())
        for record in [
            record for record in self._waiting.values() if record.cancel_asked and self._leases.ours(record)
        ]:
            self._claim(record.id)

    def _read(self, id: str) -> Record | None:
        try:
            return self._records.get(id)
        except NotFound:
            return None
        except RaytileError as error:
            LOG.warning("render %s cannot be read: %s", id, first_line(error))
            return None

    def _heed(self, one: Open, record: Record) -> None:
        held = (record.service, record.claims) == (one.record.service, one.record.claims)
        if one.stopping is None and (record.cancel_asked or not held):
            one.stopping = self._clock()
            self._stage.stop(record.id)

    def _claim(self, id: str) -> Record | None:
        """Take a render; None if it is not to be had any more, or has just been ended because somebody asked for that.
        It is looked at anew in any case."""

        def change(now: Record) -> Record | None:
            return claimed(now, self._token, self._records.clock) if self._leases.ours(now) else None

        del self._waiting[id]
        try:
            record = self._records.change(id, change)
        except RaytileError as error:
            LOG.warning("render %s cannot be claimed: %s", id, first_line(error))
            self._later[id] = self._clock() + LATER
            return None
        if record is not None and record.terminal:
            tell(self._records, record)
            self._book.count("raytile_renders_ended_total", state=record.state)
            return None
        if record is not None and record.claims == 1:
            self._book.observe("raytile_queue_wait_seconds", (record.started or record.created) - record.created)
        return record

    # -- who gets what

    def _deal(self) -> None:
        now = self._clock()
        wishes = self._wishes(now)
        leaving = self._stage.leaving()
        for key in [key for key in leaving if key in self._workers and self._workers[key].state == "idle"]:
            del self._workers[key]
            self._stage.dismiss(key)
        self._crew(sum(wish.useful for wish in wishes), now, leaving)
        there = sum(1 for worker in self._workers.values() if worker.state != "coming")
        dealt = shares(wishes, self._ledger.owners, there, self._rate.quantum)
        for id, one in self._open.items():
            mine = [key for key in sorted(one.workers) if self._workers[key].called_back is None]
            for key in mine[dealt.get(id, 0) :]:
                self._workers[key].called_back = now
                self._stage.call_back(id, key)
            back = (self._workers[key].called_back for key in one.workers)
            if any(since is not None and now - since > HANGS for since in (one.stopping, *back)):
                LOG.warning("the driver of render %s does not answer: it is ended", id)
                self._stage.end(id)
        idle = [key for key, worker in self._workers.items() if worker.state == "idle"]
        for wish in sorted(wishes, key=lambda wish: (wish.held > 0, -wish.priority, wish.id)):
            for _ in range(dealt[wish.id] - wish.held):
                if not idle:
                    return
                if wish.id not in self._open and not self._opened(wish.id):
                    break
                self._lend(wish.id, idle.pop())

    def _wishes(self, now: float) -> list[Wish]:
        """The renders that workers are dealt to: those that are open, and the next of the owner who has fewest."""
        found = [
            self._wish(one.record, self._useful(one, now), len(self._kept(one)))
            for one in self._open.values()
            if one.stopping is None
        ]
        has = Counter(one.record.owner for one in self._open.values())
        queues: dict[str, deque[Record]] = defaultdict(deque)
        for record in sorted(self._waiting.values(), key=lambda record: (-record.priority, record.id)):
            if self._later.get(record.id, now) <= now and self._leases.ours(record):
                queues[record.owner].append(record)
        for _ in range(self._settings.max_running - len(self._open)):
            if not queues:
                break
            owner = min(queues, key=lambda owner: (has[owner], -queues[owner][0].priority, queues[owner][0].id))
            record = queues[owner].popleft()
            found.append(self._wish(record, record.useful, 0))
            has[owner] += 1
            if not queues[owner]:
                del queues[owner]
        if any(has[owner] == 0 for owner in queues):
            self._make_room(has)
        return found

    def _make_room(self, has: Counter[str]) -> None:
        """An owner has no render open, since others have all places: of who has most, one goes back into the queue, if
        there is any one that rests."""
        if any(one.stopping is not None for one in self._open.values()):
            return
        most = max(
            self._open.values(),
            key=lambda one: (has[one.record.owner], not one.workers, -one.record.priority, one.record.id),
            default=None,
        )
        if most is not None and has[most.record.owner] > 1:
            most.stopping = self._clock()
            self._stage.stop(most.record.id)

    def _useful(self, one: Open, now: float) -> int:
        return min(one.record.useful, max(one.most, len(one.workers), 1)) if now < one.until else one.record.useful

    def _wish(self, record: Record, useful: int, held: int) -> Wish:
        self._ledger.enter(record.id, record.owner)
        used = self._ledger.renders[record.id]
        return Wish(record.id, record.owner, useful, held, used, record.priority)

    def _lent(self) -> int:
        return sum(1 for worker in self._workers.values() if worker.state == "lent")

    def _kept(self, one: Open) -> list[int]:
        return [key for key in one.workers if self._workers[key].called_back is None]

    def _crew(self, useful: int, now: float, leaving: frozenset[int]) -> None:
        """Ask for workers as far as there is work, in time for those that are `leaving`; let go of those that have had
        none for too long."""
        wanted = min(self._stage.most(), max(useful, self._settings.min_warm)) + len(leaving & self._workers.keys())
        for _ in range(wanted - len(self._workers) if now >= self._hiring else 0):
            self._workers[self._stage.hire()] = Worker("coming", now)
        for key in [key for key, worker in self._workers.items() if worker.state in ("coming", "idle")][::-1]:
            worker = self._workers[key]
            stale = worker.state == "coming" or now - worker.since > self._settings.warm_idle_s
            if len(self._workers) > wanted and stale:
                del self._workers[key]
                self._stage.dismiss(key)

    def _opened(self, id: str) -> bool:
        """Claim a render and give it a driver; False if it is not to be had."""
        record = self._claim(id)
        if record is None:
            return False
        self._open[id] = Open(record)
        self._stage.open(record)
        return True

    def _lend(self, id: str, key: int) -> None:
        if not self._lent():
            self._rate.begin(self._clock())
        self._workers[key] = Worker("lent", self._clock())
        self._open[id].workers.add(key)
        self._stage.lend(id, key)
