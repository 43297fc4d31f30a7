"""Renders painted in this process, one after the other: for a laptop, and for tests. No Ray."""

from __future__ import annotations

import logging
import random
import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from raytile import api
from raytile.errors import CanvasError, RaytileError, RenderCancelled, first_line
from raytile.serve.desk import expired
from raytile.serve.feed import FeedListener, FeedWriter, post_now
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings
from raytile.serve.uploads import Uploads, at_hand

LOG = logging.getLogger("raytile.serve")
LOOK = 1.0
"""Seconds between looks at the queue when nobody pokes."""
PATIENCE, LATER = 5, 20.0
"""Times that a render is begun whose canvas cannot be had, and seconds between them."""
SWEEP = 600.0
"""Seconds between two looks for renders that are kept no longer."""


class LocalChoir:
    """One thread that paints what is queued, the most wanted first. `start` it; `close` lets the render under way go on
    at the next start."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._settings, self._records = settings, records
        self._token = secrets.token_hex(8)
        self._poked, self._over = threading.Event(), threading.Event()
        self._running: str | None = None
        self._cancelled = False
        self._asked = 0.0
        self._later: dict[str, float] = {}
        self._uploads = Uploads(records.objects, records.clock, random.SystemRandom(), settings.max_pixels)
        self._scratch = tempfile.TemporaryDirectory(prefix="raytile-render-")
        self._pool = api.make_pool(in_process=True)
        self._thread = threading.Thread(target=self._run, name="local-choir", daemon=True)

    def start(self) -> None:
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
        if self._thread.is_alive():
            self._thread.join(30.0)
        self._pool.close()
        self._scratch.cleanup()

    def _run(self) -> None:
        swept = 0.0
        while not self._over.is_set():
            self._poked.clear()
            try:
                while not self._over.is_set() and (record := self._claim()) is not None:
                    self._paint(record)
                if self._settings.retain_s is not None and time.monotonic() - swept > SWEEP:
                    swept = time.monotonic()
                    expired(self._records, self._settings.retain_s)
                    self._uploads.expire(self._records.clock() - self._settings.retain_s)
            except RaytileError as error:
                LOG.warning("the queue cannot be read: %s", first_line(error))
            except Exception:
                LOG.exception("painting failed in an unexpected way")
            self._poked.wait(LOOK)

    def _claim(self) -> Record | None:
        """The next render, ours from now on."""
        now = time.monotonic()
        ids = [id for id in self._records.queued_ids() if self._later.get(id, now) <= now]
        waiting = [self._records.get(id) for id in ids]

        def claim(now: Record) -> Record | None:
            if now.terminal:
                return None
            if now.cancel_asked:
                return now.but(state="cancelled", ended=self._records.clock())
            return now.but(
                state="running",
                service=self._token,
                claims=now.claims + 1,
                started=now.started or self._records.clock(),
            )

        for record in sorted(waiting, key=lambda record: (-record.priority, record.id)):
            claimed = self._records.change(record.id, claim)
            if claimed is not None and not claimed.terminal:
                return claimed
        return None

    def _paint(self, record: Record) -> None:
        id, self._running, self._cancelled = record.id, record.id, False
        feed = FeedWriter(self._records.objects, id, self._records.clock)
        try:
            canvas = api.render(
                at_hand(record.request, self._records.objects, Path(self._scratch.name)),
                self._records.canvas(id),
                resume=True,
                pool=self._pool,
                device=self._settings.device,
                lease=self._settings.lease,
                preview_every=self._settings.preview_every,
                listeners=[FeedListener(feed, time.monotonic)],
                stop=self._stop,
            )
            summary = canvas.head().summary or {}
            end: dict[str, Any] = {"state": "finished", "summary": summary, "digest": summary.get("pixels_sha256")}
        except RenderCancelled:
            if self._over.is_set() and not self._cancelled:
                return
            end = {"state": "cancelled"}
        except CanvasError as error:
            LOG.warning("render %s waits: %s", id, first_line(error))
            if record.claims < PATIENCE:  # another process paints it, or the store is away
                self._later[id] = time.monotonic() + LATER
                return
            end = {"state": "failed", "error": "the store does not do its part"}
        except Exception as error:
            if not isinstance(error, RaytileError):
                LOG.exception("render %s failed", id)
            end = {"state": "failed", "error": first_line(error).replace(self._records.objects.where, "the store")}
        finally:
            self._running = None
            feed.close()
        ended = self._records.change(
            id, lambda now: None if now.terminal else now.but(**end, ended=self._records.clock())
        )
        if ended is not None:
            data = {"error": ended.error} if ended.error else {"digest": ended.digest}
            post_now(self._records.objects, id, self._records.clock, ended.state, data)

    def _stop(self) -> bool:
        """Whether the render under way shall end: looked up when somebody pokes, and now and then."""
        if self._running is not None and not self._cancelled:
            now = time.monotonic()
            if self._poked.is_set() or now - self._asked > LOOK:
                self._poked.clear()
                self._asked = now
                self._cancelled = self._records.get(self._running).cancel_asked
        return self._cancelled or self._over.is_set()
