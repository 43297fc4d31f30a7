"""How much waits and how fast it goes: what admission, plans and Retry-After reckon with. Each record is read once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import NamedTuple

from raytile.errors import RaytileError
from raytile.serve.records import Record, Records

REMEMBERED = 32
"""Finished renders whose pace is known."""
FRESH = 0.5
"""Seconds for which a look at the queue is good enough."""
LATELY, ENOUGH = 60.0, 5
"""Seconds over which is counted what leaves the queue, and how many tell a pace."""
CAUTION = 1.2
"""What is foretold is longer than what was measured, by so much: it is a promise."""
READERS = 8
"""Records that are read at once."""
UNKNOWN_SECONDS = 30.0
"""What a render is taken to last while none has finished."""


class Waiting(NamedTuple):
    """A render that has not ended."""

    owner: str
    evaluations: int


class Gone(NamedTuple):
    """A render that has left the queue: when, about, and how large it was."""

    at: float
    evaluations: int


class Pace(NamedTuple):
    model: str
    per_second: float


class Ledger:
    """The renders that have not ended, and the pace of those that did. `clock`: seconds since 1970. Thread-safe."""

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        self._records, self._clock = records, clock
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._paces: deque[Pace] = deque(maxlen=REMEMBERED)
        self._gone: deque[Gone] = deque(maxlen=256)
        self._busy = 0.0
        self._looked: float | None = None

    def waiting(self) -> dict[str, Waiting]:
        """The renders that have not ended, the oldest first: as of just now, or while another thread looks, as they
        were found last."""
        now = self._clock()
        with self._lock:
            known = dict(sorted(self._waiting.items()))
            if self._looked is not None and 0 <= now - self._looked < FRESH:
                return known
        if not self._looking.acquire(blocking=self._looked is None):
            return known
        try:
            self._look(now, known)
        finally:
            self._looking.release()
        with self._lock:
            return dict(sorted(self._waiting.items()))

    def _look(self, now: float, known: dict[str, Waiting]) -> None:
        """Read what is new in the queue, and the pace of what has left it."""
        if self._looked is None:
            self._remember(self._records.owned(None, limit=REMEMBERED))
        ids = self._records.queued_ids()
        there = {*ids}
        left, new = [id for id in known if id not in there], [id for id in ids if id not in known]
        with ThreadPoolExecutor(READERS) as pool:
            found = dict(zip(new, pool.map(self._read, new), strict=True))
        self._remember(left[-REMEMBERED:])
        with self._lock:
            if not known:
                self._busy = now
            self._gone.extend(Gone(now, known[id].evaluations) for id in left)
            for id in left:
                self._waiting.pop(id, None)
            for id, record in found.items():
                if record is not None and not record.terminal:
                    self._waiting[id] = Waiting(record.owner, record.evaluations)
            self._looked = now

    def note(self, record: Record) -> None:
        """A render was made here: count it from now on."""
        with self._lock:
            self._waiting[record.id] = Waiting(record.owner, record.evaluations)

    def per_second(self, model: str | None = None) -> float | None:
        """Evaluations a second that a render makes, of one model or any; None if none has finished."""
        self.waiting()
        with self._lock:
            found = [pace.per_second for pace in self._paces if model in (None, pace.model)]
        return median(found) if found else None

    def slot(self, owner: str | None, running: int) -> float:
        """Seconds after which one of the renders (of `owner`; None: of anybody) ends, with `running` under way: by what
        has left the queue lately, while there was always some, else by the pace of single renders."""
        all_ = [*self.waiting().values()]
        mine = [each for each in all_ if owner in (None, each.owner)]
        mean = sum(each.evaluations for each in mine) / max(1, len(mine))
        share = len(mine) / max(1, len(all_))
        with self._lock:
            now = self._clock()
            since = max(self._busy, now - LATELY)
            gone = [each.evaluations for each in self._gone if each.at > since]
        if len(gone) >= ENOUGH and now - since >= 1.0:
            return CAUTION * mean * (now - since) / max(1, sum(gone)) / max(share, 0.01)
        pace = self.per_second()
        return (UNKNOWN_SECONDS if pace is None else CAUTION * mean / pace) / max(1, running)

    def _remember(self, ids: list[str]) -> None:
        for id in reversed(ids):
            record = self._read(id)
            if record is None or record.state != "finished" or record.started is None or record.ended is None:
                continue
            if record.evaluations and record.ended > record.started and record.claims <= 1:
                pace = Pace(record.request.model, record.evaluations / (record.ended - record.started))
                with self._lock:
                    self._paces.append(pace)

    def _read(self, id: str) -> Record | None:
        try:
            return self._records.get(id)
        except RaytileError:  # gone, or written by a service of another version
            return None
