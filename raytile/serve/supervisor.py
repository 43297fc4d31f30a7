"""The queue and the workers: which renders are open, and who paints which. No Ray here: see `Stage`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from raytile.errors import RaytileError, first_line
from raytile.serve.desk import expired
from raytile.serve.errors import NotFound
from raytile.serve.fairness import Ledger, Wish, shares
from raytile.serve.painting import Result, claimed, finish, tell
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings

LOG = logging.getLogger("raytile.serve")
BEATS = 4
"""Signs of life in a lease."""
QUANTUM = 20.0
"""Seconds of one worker's work after which another render's turn comes, where there are more renders than workers."""
DEATHS = 5
"""How often the driver of a render may die."""
LATER = 5.0
"""Seconds after which a render is tried again that could not be had."""
LOOKED_AT = 64
"""Renders at the head of the queue that are thought about."""
SWEEP = 600.0
"""Seconds between two looks for renders that are kept no longer."""
ROUND = 1.0
"""Seconds between two looks at the queue when nobody pokes."""
State = Literal["coming", "idle", "lent", "resting"]


@dataclass(frozen=True)
class Came:
    """A worker is there and has nothing to do: it is new, or it has put away what it had."""

    key: int


@dataclass(frozen=True)
class Went:
    """A worker is no more."""

    key: int


@dataclass(frozen=True)
class Returned:
    """A render needs a worker no more; one that is not `fit` has to end."""

    id: str
    key: int
    fit: bool


@dataclass(frozen=True)
class Progress:
    """A render has come so far: a share from 0 to 1."""

    id: str
    share: float


@dataclass(frozen=True)
class Closed:
    """The driver of a render is done with it; `result` None: it died."""

    id: str
    result: Result | None


News = Came | Went | Returned | Progress | Closed


class Stage(Protocol):
    """What a supervisor moves about. No method waits."""

    def most(self) -> int:
        """How many workers there may be."""
        ...

    def hire(self) -> int:
        """Ask for a worker; its key. `Came` tells when it is there."""
        ...

    def dismiss(self, key: int) -> None:
        """End a worker."""
        ...

    def rest(self, key: int) -> None:
        """Have a worker put away what it has; `Came` or `Went` tells."""
        ...

    def open(self, record: Record) -> None:
        """Have a driver paint a claimed record, by the workers that it is lent."""
        ...

    def lend(self, id: str, key: int) -> None: ...

    def call_back(self, id: str, key: int) -> None: ...

    def stop(self, id: str) -> None:
        """Have a render end: it is wanted no more."""
        ...

    def idle(self, seconds: float) -> None:
        """End drivers that have had nothing to do for so long."""
        ...

    def news(self) -> list[News]:
        """What has happened since the last call."""
        ...


@dataclass
class Worker:
    state: State = "coming"
    since: float = 0.0
    called_back: bool = False


@dataclass
class Open:
    """A render with a driver. `share`: how far it is; `workers`: keys of those that it has."""

    record: Record
    share: float = 0.0
    stopping: bool = False
    workers: set[int] = field(default_factory=set)


class Supervisor:
    """Opens renders of the queue, lends workers to them, moves workers between them.

    The queue is in the store, and so is who holds what: after a restart all goes on. `token` names this service there;
    another's renders are left alone while it shows signs of life. `clock`: seconds that only go forward."""

    def __init__(
        self, settings: Settings, records: Records, stage: Stage, token: str, clock: Callable[[], float]
    ) -> None:
        self._settings, self._records, self._stage, self._token, self._clock = settings, records, stage, token, clock
        self._workers: dict[int, Worker] = {}
        self._open: dict[str, Open] = {}
        self._waiting: dict[str, Record] = {}
        self._later: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._ledger = Ledger()
        self._others: dict[str, tuple[str | None, float]] = {}
        self._beats = 0
        self._beaten = self._looked = self._swept = -1e9
        self._rate = 0.0
        self._rated = clock()

    # -- one round

    def round(self, poked: bool) -> None:
        """Take in what has happened, look at the queue, deal workers out."""
        now = self._clock()
        self._beat(now)
        for news in self._stage.news():
            self._take(news)
        if poked or now - self._looked > ROUND:
            self._looked = now
            self._look()
        self._deal()
        self._stage.idle(self._settings.warm_idle_s)
        if self._settings.retain_s is not None and now - self._swept > SWEEP:
            self._swept = now
            expired(self._records, self._settings.retain_s)

    def stats(self) -> dict[str, Any]:
        """For `/v1/stats`."""
        states = [worker.state for worker in self._workers.values()]
        working = sum(1 for one in self._open.values() if one.workers)
        return {
            "ready": True,
            "where": "ray",
            "service": self._token,
            "workers": len(states) - states.count("coming"),
            "coming": states.count("coming"),
            "idle": states.count("idle"),
            "running": len(self._open),
            "resting": len(self._open) - working,
        }

    def leave(self) -> None:
        """This service ends: whoever shares the store need not wait for a lease."""
        self._records.objects.delete([_beat(self._token)])

    # -- what has happened

    def _take(self, news: News) -> None:
        now = self._clock()
        match news:
            case Came(key) if key in self._workers:
                self._workers[key] = Worker("idle", now)
            case Went(key):
                self._workers.pop(key, None)
            case Returned(id, key, fit) if id in self._open and key in self._open[id].workers:
                self._open[id].workers.discard(key)
                self._put_away(key, fit)
            case Progress(id, share) if id in self._open:
                one = self._open[id]
                more = max(0.0, share - one.share) * one.record.evaluations
                one.share = max(one.share, share)
                self._ledger.charge(id, more)
                self._pace(more)
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
        if result is None:
            self._deaths[id] = self._deaths.get(id, 0) + 1
            LOG.warning("the driver of render %s died (%d of %d)", id, self._deaths[id], DEATHS)
            if self._deaths[id] >= DEATHS:
                end = {"state": "failed", "error": f"its driver died {DEATHS} times"}
                finish(self._records, one.record, end)
                result = "ended"
        if result == "ended":
            self._ledger.leave(id)
            self._waiting.pop(id, None)
            self._deaths.pop(id, None)
        elif result == "later":
            self._later[id] = self._clock() + LATER
        self._looked = -1e9

    def _pace(self, evaluations: float) -> None:
        """How many evaluations a worker does in a second, about: a mean that forgets."""
        now = self._clock()
        lent = sum(1 for worker in self._workers.values() if worker.state == "lent")
        seconds, self._rated = (now - self._rated) * max(1, lent), now
        if seconds > 0:
            keep = 0.5 ** (seconds / QUANTUM)
            self._rate = self._rate * keep + evaluations / seconds * (1 - keep)

    # -- the queue

    def _beat(self, now: float) -> None:
        """A sign of life for other services on this store."""
        if now - self._beaten < self._settings.lease / BEATS:
            return
        self._beaten, self._beats = now, self._beats + 1
        said = {"beat": self._beats, "at": round(self._records.clock(), 3)}
        self._records.objects.write(_beat(self._token), json.dumps(said).encode())

    def _look(self) -> None:
        """Read what is queued: new renders, and those that shall end."""
        ids = self._records.queued_ids()
        for id in self._waiting.keys() - set(ids):
            del self._waiting[id]
            self._ledger.leave(id)
        self._others = {service: seen for service, seen in self._others.items() if self._still(service)}
        for id in ids:
            try:
                record = self._records.get(id)
                if record.terminal:  # whoever ended it died before it was out of the queue
                    self._records.change(id, lambda _: None)
                elif id in self._open:
                    self._heed(self._open[id], record)
                elif record.cancel_asked and self._ours(record):
                    ended = self._records.change(id, lambda now: claimed(now, self._token, self._records.clock))
                    if ended is not None and ended.terminal:
                        tell(self._records, ended)
                else:
                    self._waiting[id] = record
            except NotFound:
                self._waiting.pop(id, None)
            except RaytileError as error:
                LOG.warning("render %s cannot be looked at: %s", id, first_line(error))

    def _still(self, service: str) -> bool:
        return any(record.service == service for record in self._waiting.values())

    def _heed(self, one: Open, record: Record) -> None:
        held = (record.service, record.claims) == (one.record.service, one.record.claims)
        if not one.stopping and (record.cancel_asked or not held):
            one.stopping = True
            self._stage.stop(record.id)

    def _ours(self, record: Record) -> bool:
        """Whether this render may be taken: nobody holds it, or who does has shown no life for a lease."""
        service = record.service
        if service is None or service == self._token:
            return True
        found = self._records.objects.read(_beat(service))
        if found is None:  # it left
            return True
        tag, since = self._others.get(service, (None, 0.0))
        if tag != found[1]:
            self._others[service] = (found[1], self._clock())
            return False
        return self._clock() - since > self._settings.lease

    # -- who gets what

    def _deal(self) -> None:
        now = self._clock()
        wishes = self._wishes(now)
        self._crew(sum(wish.useful for wish in wishes), now)
        there = sum(1 for worker in self._workers.values() if worker.state != "coming")
        quantum = max(1.0, self._rate * QUANTUM)
        dealt = shares(wishes, self._ledger.owners, there, quantum)
        for id, one in self._open.items():
            mine = [key for key in sorted(one.workers) if not self._workers[key].called_back]
            for key in mine[dealt.get(id, 0) :]:
                self._workers[key].called_back = True
                self._stage.call_back(id, key)
        idle = [key for key, worker in self._workers.items() if worker.state == "idle"]
        for wish in sorted(wishes, key=lambda wish: (wish.held > 0, -wish.priority, wish.id)):
            for _ in range(dealt[wish.id] - wish.held):
                if not idle:
                    return
                if wish.id not in self._open and not self._opened(wish.id):
                    break
                self._lend(wish.id, idle.pop())

    def _wishes(self, now: float) -> list[Wish]:
        """The renders that workers are dealt to: those that are open, and the first of the queue."""
        found = [self._wish(one.record, len(self._kept(one))) for one in self._open.values() if not one.stopping]
        room = self._settings.max_running - len(self._open)
        ready = sorted(self._waiting.values(), key=lambda record: (-record.priority, record.id))
        for record in ready[:LOOKED_AT]:
            if room <= 0:
                break
            if record.id not in self._open and self._later.get(record.id, now) <= now and self._ours(record):
                found.append(self._wish(record, 0))
                room -= 1
        return found

    def _wish(self, record: Record, held: int) -> Wish:
        self._ledger.enter(record.id, record.owner)
        used = self._ledger.renders[record.id]
        return Wish(record.id, record.owner, record.useful, held, used, record.priority)

    def _kept(self, one: Open) -> list[int]:
        return [key for key in one.workers if not self._workers[key].called_back]

    def _crew(self, useful: int, now: float) -> None:
        """Ask for workers as far as there is work; let go of those that have had none for too long."""
        wanted = min(self._stage.most(), max(useful, self._settings.min_warm))
        for _ in range(wanted - len(self._workers)):
            self._workers[self._stage.hire()] = Worker("coming", now)
        for key in [key for key, worker in self._workers.items() if worker.state in ("coming", "idle")][::-1]:
            worker = self._workers[key]
            stale = worker.state == "coming" or now - worker.since > self._settings.warm_idle_s
            if len(self._workers) > wanted and stale:
                del self._workers[key]
                self._stage.dismiss(key)

    def _opened(self, id: str) -> bool:
        """Claim a render and give it a driver; False if somebody else was faster."""

        def change(now: Record) -> Record | None:
            return claimed(now, self._token, self._records.clock) if self._ours(now) else None

        try:
            record = self._records.change(id, change)
        except RaytileError as error:
            LOG.warning("render %s cannot be claimed: %s", id, first_line(error))
            self._later[id] = self._clock() + LATER
            return False
        self._waiting.pop(id, None)
        if record is None or record.terminal:
            return False
        self._open[id] = Open(record)
        self._stage.open(record)
        return True

    def _lend(self, id: str, key: int) -> None:
        self._workers[key] = Worker("lent", self._clock())
        self._open[id].workers.add(key)
        self._stage.lend(id, key)


def _beat(service: str) -> str:
    return f"services/{service}.json"
