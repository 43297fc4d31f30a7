"""Around the whole app, in plain ASGI: bodies too large or too slow, headers that protect browsers, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from raytile.serve.errors import HeadTooLarge, ServiceError, SlowBody, TooLarge, body, headers, served

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Limit = Callable[[str, str], int | None]

SLOW = 30.0
"""Seconds that a body may take."""
HEAD = 64 * 2**10
"""Bytes of all headers: not every server bounds them."""
LOG = logging.getLogger("raytile.serve")
PROBES = ("/healthz", "/readyz")
"""What is asked all the time, and logged only for those who debug."""
PROTECTING = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class BodyRefused(HTTPException):
    """What FastAPI lets through while it reads a body."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.status, error.message)
        self.error = error


class Guard:
    """`limit(method, path)`: bytes that a body may have; None where the route counts for itself."""

    def __init__(self, app: App, limit: Limit) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0
        method, path = str(scope["method"]), str(scope["path"])

        async def protected(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                there = {name.lower() for name, _ in message.get("headers", ())}
                more = [(n.encode(), v.encode()) for n, v in PROTECTING.items() if n.encode() not in there]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            if sum(len(key) + len(value) for key, value in scope["headers"]) > HEAD:
                await refuse(protected, HeadTooLarge(f"the headers are larger than the {HEAD} bytes that are taken"))
                return
            limit = self._limit(method, path)
            said = _header(scope, b"content-length")
            if limit is not None and said.isdecimal() and int(said[:20]) > limit:
                await refuse(protected, _too_large(limit))
                return
            await self._app(scope, receive if limit is None else _metered(receive, limit), protected)
        except Exception as error:
            if status:  # too late for another answer
                LOG.exception("%s %s broke off", method, _plain(path))
                raise
            if isinstance(error, BodyRefused):
                error = error.error
            if not isinstance(error, ServiceError):
                LOG.exception("%s %s failed", method, _plain(path))
            await refuse(protected, served(error))
        finally:
            seconds = time.monotonic() - begun
            LOG.log(
                logging.DEBUG if path in PROBES else logging.INFO,
                "%s %s %d %.3fs",
                method,
                _plain(path),
                status,
                seconds,
            )


async def refuse(send: Send, error: ServiceError) -> None:
    """Answer with an error, in the one shape."""
    said = json.dumps(body(error)).encode()
    given: Iterable[tuple[str, str]] = {
        "content-type": "application/json",
        "content-length": str(len(said)),
        "cache-control": "no-store",
        **headers(error),
        **({"connection": "close"} if error.status in (408, 413) else {}),
    }.items()
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in given],
        }
    )
    await send({"type": "http.response.body", "body": said})


def _metered(receive: Receive, limit: int) -> Receive:
    """The same body, up to `limit` bytes and while it comes soon enough; the end of the connection may take longer."""
    begun, seen, whole = time.monotonic(), 0, False

    async def metered() -> Message:
        nonlocal seen, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, begun + SLOW - time.monotonic()))
        except TimeoutError:
            raise BodyRefused(SlowBody(f"the body did not come within {SLOW:g} s")) from None
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > limit:
                raise BodyRefused(_too_large(limit))
        return message

    return metered


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {limit} bytes that are taken here")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _plain(path: str) -> str:
    """A path on one line of the log, without what controls a terminal."""
    return ascii(path[:200])[1:-1]
