"""A client that leaves calls off what it waits for; one that only watches does not."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.serve.live import live
from tests.serve.service import Service

LONG = {"prompt": "islands", "size": "512x512", "steps": 100}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    with live(tmp_path_factory.mktemp("store"), preview_every=1) as found:
        found[1].events(found[1].make())  # so that the libraries are loaded
        yield found


def said(url: str, body: bytes, kind: str, path: str) -> socket.socket:
    """A connection on which this was asked."""
    at = urlsplit(url)
    made = socket.create_connection((at.hostname or "", at.port or 0))
    head = f"POST {path} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    made.sendall(head.encode() + body)
    return made


def newest(service: Service) -> dict[str, object]:
    (found,) = service.client.get("/v1/renders", params={"limit": 1}).json()["data"]
    return dict(found)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_calls_the_picture_off(running: tuple[str, Service], stream: bool) -> None:
    url, service = running
    before = len(service.client.get("/v1/renders").json()["data"])
    asked = said(url, json.dumps({**LONG, "stream": stream}).encode(), "application/json", "/v1/images/generations")
    with asked:
        end = time.monotonic() + 30
        while len(service.client.get("/v1/renders").json()["data"]) == before or newest(service)["state"] == "queued":
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
    left = time.monotonic()
    while newest(service)["state"] == "running":
        assert time.monotonic() < left + 20
        time.sleep(0.05)
    assert newest(service)["state"] == "cancelled"
    assert time.monotonic() - left < 5


def test_who_only_watches_leaves_it_alone(running: tuple[str, Service]) -> None:
    url, service = running
    id = service.make(**LONG)
    at = urlsplit(url)
    with socket.create_connection((at.hostname or "", at.port or 0)) as watching:
        watching.sendall(f"GET /v1/renders/{id}/events HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
        while b"event: step" not in watching.recv(2**16):
            pass
    left = time.monotonic()
    while service.client.get(f"/v1/renders/{id}").json()["progress"]["step"] < 20:
        assert time.monotonic() < left + 30
        time.sleep(0.1)
    time.sleep(1)
    assert newest(service)["cancel_asked"] is False
    service.client.delete(f"/v1/renders/{id}")
    assert service.events(id)[-1]["event"] == "cancelled"


def test_floods_of_headers_are_refused(running: tuple[str, Service]) -> None:
    many = {f"X-{n}": "a" * 50 for n in range(2000)}
    answer = running[1].client.get("/v1/models", headers=many)
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")
