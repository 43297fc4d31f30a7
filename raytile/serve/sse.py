"""Server-sent events (WHATWG HTML, 9.2): a feed as a stream, from wherever the client was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from raytile.serve.desk import Desk
from raytile.serve.errors import BadRequest, NotFound
from raytile.serve.feed import ENDING

PING = 15.0
EAGER, SOON, LATE = 0.04, 0.2, 0.5
"""Seconds between two looks at a feed: at its beginning, just after news, and after a while without."""
FIRST = 12
"""Events that are a feed's beginning."""
LOOKERS = anyio.CapacityLimiter(16)
"""Threads that look at feeds, beside those that answer requests."""
_LEAVING: set[asyncio.Future[None]] = set()  # the loop itself holds no task
STALE = 2.0
"""Seconds without news after which the record is asked whether the render has ended."""


def streamed(names: Sequence[str], numbered: bool) -> dict[str, Any]:
    """The `content` of a documented answer that streams events of these names, numbered or not (OpenAPI 3.2,
    `itemSchema`, which FastAPI's own documents have as well): each event's data is a JSON object."""
    fields: dict[str, Any] = {
        "event": {"type": "string", "enum": list(names)},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "object"}},
    }
    if numbered:
        fields["id"] = {"type": "string", "pattern": "^[0-9]+$"}
    item = {"type": "object", "properties": fields, "required": sorted(fields), "additionalProperties": False}
    return {"text/event-stream": {"itemSchema": item}}


def written(event: Mapping[str, Any]) -> bytes:
    """An event as the stream has it."""
    data = json.dumps({"at": event["at"], **event["data"]}, separators=(",", ":"))
    return f"id: {event['id']}\nevent: {event['event']}\ndata: {data}\n\n".encode()


def asked_after(header: str | None, query: int | None) -> int:
    """The last event that a client has seen; raises `BadRequest`."""
    if header is None or not header.strip():
        return query or 0
    text = header.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise BadRequest("Last-Event-ID: must be the id of an event, a whole number", "Last-Event-ID")
    return int(text)


async def follow(desk: Desk, id: str, after: int) -> AsyncIterator[dict[str, Any] | None]:
    """The events of a render after event `after`, as they come, until it has ended; None when there is time to spare.

    One that ended without saying so in its feed (its painter died just then) is told from its record."""
    reader = desk.feed(id, after)
    pause, quiet = EAGER, 0.0
    while True:
        events = await anyio.to_thread.run_sync(reader.read, limiter=LOOKERS)
        for event in events:
            yield event
            if event["event"] in ENDING:
                return
        if events:
            pause, quiet = EAGER if reader.after < FIRST else SOON, 0.0
        elif quiet >= STALE:
            quiet = 0.0
            try:
                record = await anyio.to_thread.run_sync(desk.records.get, id, limiter=LOOKERS)
            except NotFound:
                return
            if record.terminal:
                last = await anyio.to_thread.run_sync(reader.read, limiter=LOOKERS)
                for event in last:
                    yield event
                if not any(event["event"] in ENDING for event in last):
                    yield {"id": reader.after + 1, "event": record.state, "at": record.ended or 0.0, "data": {}}
                return
        yield None
        await anyio.sleep(pause)
        quiet, pause = quiet + pause, min(LATE, pause * 1.2)


class EventStream(Response):
    """A response that streams what `follow` gives, with a comment now and then so that nobody in between hangs up.

    `gone` is awaited when the client leaves before the end (not when we break off); `write` makes bytes of an event."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Any],
        gone: Callable[[], Awaitable[None]] | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        write: Callable[[Any], bytes] = written,
    ) -> None:
        super().__init__(None, status_code, {"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events, self._gone, self._write = events, gone, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        over = broke = False

        async def sent(body: bytes, more: bool = True) -> None:
            try:
                await send({"type": "http.response.body", "body": body, "more_body": more})
            except Exception:  # the connection is no more: each server has an error of its own for that
                group.cancel_scope.cancel()

        async def stream() -> None:
            nonlocal over
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            silent = anyio.current_time()
            await sent(b": ok\n\n")
            async for event in self._events:
                if event is not None:
                    await sent(self._write(event))
                elif anyio.current_time() - silent < PING:
                    continue
                else:
                    await sent(b": ping\n\n")
                silent = anyio.current_time()
            over = True
            await sent(b"", more=False)
            group.cancel_scope.cancel()

        async def listen() -> None:
            with suppress(Exception):  # whom we cannot hear has left, too
                while (await receive())["type"] != "http.disconnect":
                    pass
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                group.start_soon(stream)
        except Exception:
            broke = True
            raise
        finally:  # Ray Serve tells that the client has left by cancelling us
            if not (over or broke) and self._gone is not None:
                said = asyncio.ensure_future(self._gone())
                _LEAVING.add(said)
                said.add_done_callback(_LEAVING.discard)
                with anyio.CancelScope(shield=True):
                    await asyncio.shield(said)  # it is said even if we are cancelled once more
