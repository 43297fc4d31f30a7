"""A service in this process, for tests: the toy model, one choir, a client that speaks HTTP without a socket."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from raytile.serve.asgi import make_app
from raytile.serve.desk import Choir, Desk, open_records
from raytile.serve.keys import Keys
from raytile.serve.localchoir import LocalChoir
from raytile.serve.settings import Settings

SMALL = {"prompt": "islands", "size": "96x64", "steps": 2}


class Idle:
    """A choir that paints nothing."""

    def __init__(self) -> None:
        self.pokes = 0

    def poke(self) -> None:
        self.pokes += 1

    def stats(self) -> dict[str, Any]:
        return {"ready": True, "running": 0}


@dataclass
class Service:
    client: TestClient
    desk: Desk
    settings: Settings

    def make(self, **wish: Any) -> str:
        """The id of a render that was taken in."""
        answer = self.client.post("/v1/renders", json={**SMALL, **wish})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def events(self, id: str, **query: Any) -> list[dict[str, Any]]:
        """All events of a render, until it has ended."""
        with self.client.stream("GET", f"/v1/renders/{id}/events", params=query) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return [*parsed(answer.iter_lines())]


def parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if not line and event:
            yield event
            event = {}
        elif name == "data":
            event["data"] = json.loads(value)
        elif name == "id":
            event["id"] = int(value)
        elif name == "event":
            event["event"] = value


@contextmanager
def serving(store: Path | str, paint: bool = True, crew: Choir | None = None, **given: Any) -> Iterator[Service]:
    """A service on `store`; without `paint` its queue stays as it is."""
    settings = Settings.load(**{"store": str(store), "models": {"toy": "toy"}, **given})
    records = open_records(settings, time.time)
    choir = crew or (LocalChoir(settings, records) if paint else Idle())
    desk = Desk(settings, records, Keys(records.objects, time.time), choir, time.time, random.SystemRandom())
    if isinstance(choir, LocalChoir):
        choir.start()
    try:
        app = make_app(settings, desk)
        with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
            yield Service(client, desk, settings)
    finally:
        if isinstance(choir, LocalChoir):
            choir.close()
