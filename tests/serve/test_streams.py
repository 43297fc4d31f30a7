"""Streams of events, spoken to as a server does: what is sent, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.errors import CanvasError
from raytile.serve import sse
from raytile.serve.asgi import make_app
from raytile.serve.feed import FeedReader, post_now
from tests.serve.service import SMALL, Service, serving


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, paint=False) as found:
        yield found


class Caller:
    """Speaks ASGI to a service; `leave` hangs up."""

    def __init__(self, service: Service, path: str, wish: dict[str, Any] | None = None) -> None:
        self.app, self.gone, self.sent = make_app(service.settings, service.desk), asyncio.Event(), ""
        self._body = b"" if wish is None else json.dumps(wish).encode()
        path, _, query = path.partition("?")
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "scheme": "http",
            "method": "GET" if wish is None else "POST", "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "root_path": "", "state": {},
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        self._asked = False
        self.task = asyncio.create_task(self.app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent += message.get("body", b"").decode()

    async def until(self, words: str) -> None:
        while words not in self.sent:
            assert not self.task.done(), self.sent
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        self.gone.set()
        await self.task


WATCHED = {**SMALL, "cancel_on_disconnect": True}


def test_a_render_made_for_its_watcher_ends_when_that_leaves(idle: Service) -> None:
    async def make(wish: dict[str, Any]) -> str:
        caller = Caller(idle, "/v1/renders?stream=true", wish)
        await caller.until("event: queued")
        await caller.leave()
        return idle.desk.records.owned(None)[0]

    for wish, state in ((WATCHED, "cancelled"), (SMALL, "queued")):
        id = asyncio.run(asyncio.wait_for(make(wish), 20))
        assert idle.desk.records.get(id).state == state


def test_a_stream_that_is_cancelled_is_one_whose_client_left(idle: Service) -> None:
    """As Ray Serve's proxy has it."""

    async def make() -> None:
        caller = Caller(idle, "/v1/renders?stream=true", WATCHED)
        await caller.until("event: queued")
        caller.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller.task

    asyncio.run(asyncio.wait_for(make(), 20))
    (id,) = idle.desk.records.owned(None)
    assert idle.desk.records.get(id).state == "cancelled"


def test_a_server_may_tell_by_cancelling_that_the_client_has_left(idle: Service) -> None:
    async def make() -> None:
        caller = Caller(idle, "/v1/renders?stream=true", WATCHED)
        await caller.until("event: queued")
        caller.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller.task

    asyncio.run(asyncio.wait_for(make(), 20))
    (id,) = idle.desk.records.owned(None)
    assert idle.desk.records.get(id).state == "cancelled"


def test_who_only_looks_in_cancels_nothing(idle: Service) -> None:
    id = idle.make(cancel_on_disconnect=True)

    async def watch() -> None:
        caller = Caller(idle, f"/v1/renders/{id}/events")
        await caller.until("event: queued")
        await caller.leave()

    asyncio.run(asyncio.wait_for(watch(), 20))
    assert idle.desk.records.get(id).state == "queued"


def test_a_stream_that_breaks_off_here_cancels_nothing(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> list[dict[str, Any]]:
        raise CanvasError("away")

    monkeypatch.setattr(FeedReader, "read", broken)

    async def make() -> None:
        caller = Caller(idle, "/v1/renders?stream=true", WATCHED)
        with pytest.raises(BaseExceptionGroup):
            await caller.task

    asyncio.run(asyncio.wait_for(make(), 20))
    (id,) = idle.desk.records.owned(None)
    assert idle.desk.records.get(id).state == "queued"


def test_a_watcher_who_stays_to_the_end_cancels_nothing(idle: Service) -> None:
    async def make() -> str:
        caller = Caller(idle, "/v1/renders?stream=true", WATCHED)
        await caller.until("event: queued")
        (id,) = idle.desk.records.owned(None)
        idle.desk.records.change(id, lambda now: now.but(state="finished"))
        post_now(idle.desk.records.objects, id, idle.desk.clock, "finished", {"digest": "d"})
        await caller.task
        assert caller.sent.rstrip().endswith('"digest":"d"}')
        return id

    id = asyncio.run(asyncio.wait_for(make(), 20))
    assert idle.desk.records.get(id).state == "finished"


def test_nobody_in_between_sees_a_silent_stream(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PING", 0.05)
    id = idle.make()

    async def watch() -> None:
        caller = Caller(idle, f"/v1/renders/{id}/events")
        await caller.until(": ping\n\n: ping\n\n")
        await caller.leave()

    asyncio.run(asyncio.wait_for(watch(), 20))


def test_an_end_that_no_event_tells_is_told_from_the_record(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALE", 0.1)
    id = idle.make()
    idle.desk.records.change(id, lambda now: now.but(state="failed", ended=4.0))
    events = idle.events(id)
    assert [event["event"] for event in events] == ["queued", "failed"]
    assert [event["id"] for event in events] == [1, 2]
    assert idle.events(id, after=1) == events[1:], "not told to stay away while the end is unknown to the client"
    assert idle.client.get(f"/v1/renders/{id}/events", params={"after": 2}).status_code == 204
