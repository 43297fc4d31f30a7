"""One render of a record, from its claim to its end: what every choir does, whoever lends the workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from raytile import api
from raytile.engine.pool import Pool
from raytile.errors import CanvasError, ClusterError, RaytileError, RenderCancelled, WorkerLost, first_line
from raytile.events import Listener
from raytile.serve.feed import FeedListener, FeedWriter, post_now
from raytile.serve.records import Record, Records
from raytile.serve.settings import Settings
from raytile.serve.uploads import at_hand

LOG = logging.getLogger("raytile.serve")
Result = Literal["finished", "failed", "cancelled", "left", "later"]
"""What became of a render: it has ended so; it was left where it is, because its choir goes; it cannot be had now."""


def claimed(record: Record, service: str, clock: Callable[[], float]) -> Record | None:
    """The record as the service that holds it from now on writes it; None for one that has ended."""
    if record.terminal:
        return None
    now = clock()
    if record.cancel_asked:
        return record.but(state="cancelled", ended=now)
    return record.but(state="running", service=service, claims=record.claims + 1, started=record.started or now)


def paint(
    settings: Settings,
    records: Records,
    record: Record,
    pool: Pool,
    scratch: Path,
    stop: Callable[[], bool],
    wanted: Callable[[], bool],
    listeners: Sequence[Listener] = (),
) -> Result:
    """Paint a record that is claimed, and write its end down, once: `Result` says what became of it.

    `stop`: whether to end now; `wanted`: asked after that, whether the render itself is still wanted, only not here."""
    result: Result
    end: dict[str, Any]
    feed = FeedWriter(records.objects, record.id, records.clock)
    try:
        canvas = api.render(
            at_hand(record.request, records.objects, scratch),
            records.canvas(record.id),
            resume=True,
            pool=pool,
            device=settings.device,
            lease=settings.lease,
            preview_every=settings.preview_every,
            listeners=[FeedListener(feed, time.monotonic), *listeners],
            stop=stop,
        )
        summary = canvas.head().summary or {}
        result, end = "finished", {"summary": summary, "digest": summary.get("pixels_sha256")}
    except RenderCancelled:
        if wanted():
            return "left"
        result, end = "cancelled", {}
    except (CanvasError, ClusterError, WorkerLost) as error:
        # another process paints it, the store is away, or all workers were lost before it began
        LOG.warning("render %s waits: %s", record.id, first_line(error))
        return "later"
    except Exception as error:
        if not isinstance(error, RaytileError):
            LOG.exception("render %s failed", record.id)
        words = first_line(error).replace(str(scratch), "the service").replace(records.objects.where, "the store")
        result, end = "failed", {"error": words}
    finally:
        feed.close()
    try:
        finish(records, record, {"state": result, **end})
    except CanvasError as error:  # what is finished stays so, and is found so the next time
        LOG.warning("the end of render %s could not be written: %s", record.id, first_line(error))
        return "later"
    return result


def finish(records: Records, record: Record, end: dict[str, Any]) -> None:
    """Write the end of a render down, unless somebody else holds it by now; whoever does tells its watchers."""

    def change(now: Record) -> Record | None:
        if now.terminal or (now.service, now.claims) != (record.service, record.claims):
            return None
        return now.but(**end, ended=records.clock())

    ended = records.change(record.id, change)
    if ended is not None:
        tell(records, ended)


def tell(records: Records, ended: Record) -> None:
    """The last event of a render."""
    data = {"error": ended.error} if ended.error else {"digest": ended.digest}
    post_now(records.objects, ended.id, records.clock, ended.state, data)
