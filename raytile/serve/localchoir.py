"""Renders painted in this process, one after the other: for a laptop, and for tests. No Ray."""

from __future__ import annotations

import itertools
import logging
import secrets
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from raytile import api
from raytile.errors import RaytileError, first_line
from raytile.serve.desk import expired
from raytile.serve.errors import NotFound
from raytile.serve.leases import BEATS, Leases
from raytile.serve.painting import claimed, finish, paint, tell
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings

LOG = logging.getLogger("raytile.serve")
LOOK = 1.0
"""Seconds between looks at the queue, and at the render under way, when nobody pokes."""
PATIENCE, LATER = 5, 20.0
"""Times that a render is begun whose canvas cannot be had, and seconds between them."""
SWEEP = 600.0
"""Seconds between two looks for renders that are kept no longer."""


class LocalChoir:
    """One thread that paints what is queued and no other service holds, the most wanted first.

    `start` it; after `close` the next one goes on with the render that was under way."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._settings, self._records = settings, records
        self._token = secrets.token_hex(8)
        self._poked, self._over = threading.Event(), threading.Event()
        self._running: str | None = None
        self._cancelled = False
        self._asked = 0.0
        self._later: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._leases = Leases(records, self._token, settings.lease, time.monotonic)
        self._scratch = tempfile.TemporaryDirectory(prefix="raytile-render-")
        self._pool = api.make_pool(in_process=True)
        self._thread = threading.Thread(target=self._run, name="local-choir", daemon=True)
        self._heart = threading.Thread(target=self._beat, name="local-choir-beat", daemon=True)

    def start(self) -> None:
        self._heart.start()
        self._thread.start()

    def poke(self) -> None:
        self._poked.set()

    def stats(self) -> dict[str, Any]:
        busy = int(self._running is not None)
        return {"ready": self._thread.is_alive(), "workers": 1, "running": busy, "where": "in process"}

    def close(self) -> None:
        """Stop painting; a render under way is left where it is."""
        self._over.set()
        self._poked.set()
        for thread in (self._thread, self._heart):
            if thread.is_alive():
                thread.join(30.0)
        with suppress(RaytileError):
            self._leases.leave()
        self._pool.close()
        self._scratch.cleanup()

    def _run(self) -> None:
        swept = time.monotonic()
        while not self._over.is_set():
            self._poked.clear()
            try:
                while not self._over.is_set() and (record := self._claim()) is not None:
                    self._paint(record)
                if time.monotonic() - swept > SWEEP:
                    swept = time.monotonic()
                    expired(self._records, self._settings.retain_s)
                    self._leases.forget()
            except RaytileError as error:
                LOG.warning("the queue cannot be read: %s", first_line(error))
            except Exception:
                LOG.exception("painting failed in an unexpected way")
            self._poked.wait(LOOK)

    def _beat(self) -> None:
        """Show that this service lives, to others on the same store."""
        for number in itertools.count():
            try:
                self._leases.beat(number)
            except RaytileError as error:
                LOG.warning("no sign of life can be shown: %s", first_line(error))
            if self._over.wait(self._settings.lease / BEATS):
                return

    def _claim(self) -> Record | None:
        """The next render, ours from now on."""
        now, waiting = time.monotonic(), []
        for id in self._records.queued_ids():
            try:
                if self._later.get(id, now) <= now:
                    waiting.append(self._records.get(id))
            except NotFound:  # not written yet, or removed just now
                continue
            except RaytileError as error:
                LOG.warning("render %s cannot be looked at: %s", id, first_line(error))
        self._leases.listen(waiting)
        for record in sorted(filter(self._leases.ours, waiting), key=lambda record: (-record.priority, record.id)):
            made = self._records.change(record.id, lambda now: claimed(now, self._token, self._records.clock))
            if made is not None and made.terminal:
                tell(self._records, made)
            elif made is not None:
                return made
        return None

    def _paint(self, record: Record) -> None:
        self._running, self._cancelled = record.id, False
        try:
            result = paint(
                self._settings,
                self._records,
                record,
                self._pool,
                Path(self._scratch.name),
                stop=self._stop,
                wanted=lambda: not self._cancelled,
            )
        finally:
            self._running = None
        if result == "later":
            self._later[record.id] = time.monotonic() + LATER
            self._tries[record.id] += 1
            if self._tries[record.id] >= PATIENCE:
                end = {"state": "failed", "error": "its canvas cannot be had: see the log of the service"}
                finish(self._records, record, end)
        else:
            self._later.pop(record.id, None)
            del self._tries[record.id]

    def _stop(self) -> bool:
        """Whether the render under way shall end: looked up when somebody pokes, and now and then."""
        now = time.monotonic()
        if self._running is not None and not self._cancelled and (self._poked.is_set() or now - self._asked > LOOK):
            self._poked.clear()
            self._asked = now
            self._cancelled = self._records.get(self._running).cancel_asked
        return self._cancelled or self._over.is_set()
