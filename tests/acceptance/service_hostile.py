"""A real service under hostile clients: traversals, requests into the network, bombs, malformed JSON, wrong types, slow
and endless bodies, floods of headers. Each is refused with the one shape of error, and the service lives; nothing is
asked of the network, nothing read or written outside the store."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from raytile.serve.keys import Keys
from tests.acceptance import hostile
from tests.acceptance.clusters import scratch, wait_for
from tests.acceptance.common import report, say
from tests.acceptance.services import Service, serving

TOKEN = "a-secret-that-no-answer-may-hold"
LIMITS = {
    "RAYTILE_KEYS": "on", "RAYTILE_MAX_PIXELS": "16384", "RAYTILE_MAX_SIDE": "512", "RAYTILE_MAX_STEPS": "3",
    "RAYTILE_MAX_UPLOAD": "3000000", "RAYTILE_MAX_REGIONS": "8", "RAYTILE_MAX_RENDERS_PER_KEY": "500",
    "RAYTILE_MAX_QUEUE": "2000", "RAYTILE_MODELS": '{"toy": "toy"}',
}  # fmt: skip
SLOWEST = 90.0
"""Seconds in which any attack is over."""


class Watch:
    """Sends attacks and keeps what is wrong with the answers."""

    def __init__(self, service: Service, key: str, secret: Path) -> None:
        self.service, self.key, self.secret = service, key, secret
        self.host = f"127.0.0.1:{service.port}"
        self.wrong: list[str] = []
        self.sent: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()

    def ask(
        self, name: str, method: str, path: str, body: bytes | None = None, fine: bool = False, **headers: str
    ) -> tuple[int, bytes]:
        """Send as it is, and look at the answer: a refusal in JSON, or with `fine` also a success."""
        given = {"Authorization": f"Bearer {self.key}", **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=SLOWEST)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for header, value in given.items():
                connection.putheader(header, value.encode("latin-1"))
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            with suppress(ConnectionError, BrokenPipeError):  # refused before all was sent: there is an answer
                connection.send(body or b"")
            answer = connection.getresponse()
            status, kind = answer.status, answer.getheader("Content-Type", "")
            said = answer.read(2**22) if kind != "text/event-stream" else answer.read(64)
        except (http.client.HTTPException, ConnectionError) as error:
            self.count(name, 0)
            if body is None or len(body) < 2**20:  # a large body may meet a closed door
                self.wrong.append(f"{name}: {method} {path[:80]}: {type(error).__name__}")
            return 0, b""
        except TimeoutError:
            self.wrong.append(f"{name}: {method} {path[:80]}: no answer in {SLOWEST:g} s")
            return 0, b""
        finally:
            connection.close()
        self.judge(name, f"{method} {path[:80]} {(body or b'')[:120]!r}", status, kind, said, fine)
        return status, said

    def judge(self, name: str, what: str, status: int, kind: str, said: bytes, fine: bool) -> None:
        self.count(name, status)
        if TOKEN.encode() in said or b"root:x:" in said:
            self.wrong.append(f"{name}: {what}: answered with what is none of its business")
        elif status >= 500 and status not in (501, 503):  # IIIF has 501 for what is not offered
            self.wrong.append(f"{name}: {what}: {status} {said[:200]!r}")
        elif status >= 400 or status == 0:
            try:
                error = json.loads(said)["error"]
                assert {"message", "type", "param", "code"} == {*error}
                assert str(self.service.store) not in error["message"]
            except (ValueError, KeyError, TypeError, AssertionError):
                self.wrong.append(f"{name}: {what}: {status} {kind} not in the one shape: {said[:200]!r}")
        elif not fine:
            self.wrong.append(f"{name}: {what}: let in with {status} {said[:100]!r}")

    def count(self, name: str, status: int) -> None:
        self.sent[name] += 1
        self.answers[status] += 1

    def post(self, name: str, path: str, body: bytes, kind: str = "application/json", fine: bool = False) -> int:
        return self.ask(name, "POST", path, body, fine, **{"Content-Type": kind})[0]

    def alive(self) -> bool:
        """Whether the service answers a sane client soon."""
        begun = time.monotonic()
        status, _ = self.ask("sane", "GET", "/v1/models", fine=True)
        return status == 200 and time.monotonic() - begun < 20


def paths(watch: Watch, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        names = re.findall(r"{[^}]*}", path)
        for name in names[:2]:
            for bad in hostile.PATHS:
                asked = re.sub(r"{[^}]*}", "r" + "0" * 24, path.replace(name, "\0")).replace("\0", bad)
                for method in methods:
                    body = b"{}" if method == "post" else None
                    more = {"Content-Type": "application/json"} if body else {}
                    watch.ask("paths", method.upper(), asked, body, False, **more)


def values(watch: Watch, listener: str) -> None:
    """Wrong types and would-be places in every field of every body."""
    words = {"prompt", "negative", "style", "metadata", "user", "safety_identifier", "priority", "stream", "seed"}
    strings = [json.dumps(text) for text in hostile.strings(listener, str(watch.secret))]
    document = json.loads(watch.ask("document", "GET", "/openapi.json", fine=True)[1])
    kinds = document["components"]["schemas"]
    routes = {
        "/v1/plans": [*kinds["Wish"]["properties"]],
        "/v1/renders": [
            "prompt",
            "size",
            "model",
            "source",
            "metadata",
            "priority",
            "regions",
            "seed",
            "path",
            "\\u0000",
        ],
        "/v1/images/generations": ["prompt", "size", "model", "n", "regions", "response_format", "source", "stream"],
    }
    for path, fields in routes.items():
        for field in fields:
            for text in (*hostile.VALUES, *strings):
                base = json.dumps({k: v for k, v in hostile.wishes().items() if k != field})
                body = f'{base[:-1]}, "{field}": {text}}}'.encode()
                fine = (
                    path == "/v1/plans"
                    or field in words
                    or text in ("null", "0", "1.5", "false", '"1"', "true", "[]", "{}")
                )
                watch.post(f"values of {path}", path, body, fine=fine)
        for field in ("source", "control"):
            for text in strings:
                for name in ("upload", "render", "path", "url"):
                    body = json.dumps({**hostile.wishes(), field: {name: json.loads(text)}}).encode()
                    watch.post(f"places of {path}", path, body)


def bodies(watch: Watch) -> None:
    for path in ("/v1/renders", "/v1/plans", "/v1/images/generations", "/v1/renders/r" + "0" * 24 + "/repaint"):
        for name, body in hostile.documents().items():
            watch.post("documents", path, body, fine=name == "twice")
            if len(body) < 1000:
                for kind in (
                    "text/plain",
                    "application/xml",
                    "application/x-www-form-urlencoded",
                    "",
                    "multipart/form-data",
                ):
                    watch.post("content types", path, body, kind)


def uploads(watch: Watch, listener: str) -> None:
    for _, data in hostile.files(listener, str(watch.secret)).items():
        watch.post("bombs", "/v1/uploads", data, "image/png", fine=True)
        part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="../../../../tmp/x.png"\r\n\r\n%s\r\n'
        watch.post(
            "bombs", "/v1/uploads", part % (b"file", data) + b"--b--", "multipart/form-data; boundary=b", fine=True
        )
        edit = part % (b"image", data) + b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
        watch.post(
            "bombs", "/v1/images/edits", edit + part % (b"mask", data) + b"--b--", "multipart/form-data; boundary=b"
        )
    for path in ("/v1/uploads", "/v1/images/edits"):
        for kind, body in hostile.forms().values():
            watch.post("forms", path, body, kind)
        watch.post("large", path, bytes(40_000_000), "image/png")


def heads(watch: Watch, id: str) -> None:
    content, events = f"/v1/renders/{id}/content", f"/v1/renders/{id}/events"
    for path in (content, events, "/v1/renders", "/v1/stats"):
        for headers in hostile.HEADERS:
            watch.ask("headers", "GET", path, None, True, **headers)
        for query in hostile.QUERIES:
            watch.ask("queries", "GET", f"{path}?{query}", None, True)
    for headers in hostile.HEADERS:
        body = json.dumps(hostile.wishes()).encode()
        watch.ask("headers", "POST", "/v1/plans", body, True, **{"Content-Type": "application/json", **headers})
    for path in hostile.ZOOMS:
        watch.ask("zooms", "GET", f"/v1/renders/{path}".replace("{id}", id).replace("/renders/../", "/"), None, True)
    for method in ("TRACE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "DELETE", "LINK"):
        for path in ("/v1/renders", "/v1/models", "/openapi.json", "/healthz"):
            watch.ask("methods", method, path)


def strangers(watch: Watch, id: str, other: str, reader: str) -> None:
    """Another's renders are not there; a key that may read makes nothing; no key, or a wrong one, gets nothing."""
    mine, asked = watch.key, [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("GET", "/events"), ("POST", "/cancel")]
    asked += [("GET", ".dzi"), ("GET", "_files/0/0_0.png")]
    watch.key = other
    for method, end in asked:
        if watch.ask("strangers", method, f"/v1/renders/{id}{end}")[0] != 404:
            watch.wrong.append(f"strangers: {method} {end} of another's render is not 404")
    watch.key = reader
    for path in ("/v1/renders", "/v1/images/generations", "/v1/plans"):
        if path != "/v1/plans" and watch.post("scopes", path, json.dumps(hostile.wishes()).encode()) != 403:
            watch.wrong.append(f"scopes: a reader may POST {path}")
    watch.key = mine
    for credential in hostile.CREDENTIALS:
        for path in ("/v1/renders", f"/v1/renders/{id}", f"/v1/renders/{id}/content", "/v1/models"):
            if watch.ask("credentials", "GET", path, Authorization=credential)[0] != 401:
                watch.wrong.append(f"credentials: {credential[:30]!r} is not 401 at {path}")


def sockets(watch: Watch) -> None:
    """Bytes that are hardly HTTP. Whatever the server says to that, it says it soon, and stays."""
    for name, data in hostile.raw(watch.host, watch.key).items():
        said = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", watch.service.port), 15) as made:
            with suppress(ConnectionError, BrokenPipeError):
                made.sendall(data)
            while piece := made.recv(2**16):
                said += piece
                if len(said) > 2**20 or (b"\r\n\r\n" in said and not name.startswith("smuggled")):
                    break
        watch.count("sockets", int(said[9:12]) if said[9:12].isdigit() else 0)
        if TOKEN.encode() in said or b"root:x:" in said or b" 500 " in said[:20]:
            watch.wrong.append(f"sockets: {name}: {said[:200]!r}")
        if b" 200 " in said[:20] and name not in hostile.HARMLESS:
            watch.wrong.append(f"sockets: {name}: let in: {said[:200]!r}")
    if not watch.alive():
        watch.wrong.append("sockets: the service does not answer any more")


def slow(watch: Watch, figures: dict[str, Any]) -> None:
    """Many clients that send a byte now and then: others are served meanwhile, and these are ended."""
    head = f"POST /v1/renders HTTP/1.1\r\nHost: {watch.host}\r\nAuthorization: Bearer {watch.key}\r\n"
    upload = head.replace("/v1/renders", "/v1/uploads") + "Content-Type: image/png\r\nContent-Length: 1000000\r\n\r\nx"
    json_ = head + "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
    made = [socket.create_connection(("127.0.0.1", watch.service.port), 10) for _ in range(200)]
    for number, each in enumerate(made):
        each.sendall((head, json_, upload)[number % 3].encode())
    begun, ended, answers = time.monotonic(), 0, Counter[str]()
    waits = []
    while time.monotonic() - begun < SLOWEST and made:
        asked = time.monotonic()
        if not watch.alive():
            watch.wrong.append("slow: the service does not answer others")
        waits.append(time.monotonic() - asked)
        left = []
        for each in made:
            each.settimeout(0.001)
            try:
                said = each.recv(4096)
                ended += 1
                answers[said[9:12].decode("latin-1") or "closed"] += 1
                each.close()
            except TimeoutError:
                left.append(each)
                with suppress(OSError):
                    each.send(b" ")
            except OSError:
                ended += 1
                answers["reset"] += 1
        made = left
        time.sleep(2)
    for each in made:
        each.close()
    figures["slow"] = {"ended": dict(answers), "left": len(made), "longest_wait_of_others": round(max(waits), 2)}
    say("slow", figures["slow"])


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server that nobody should ever ask; its URL, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            asked.append(str(self.raw_requestline[:200]))
            return super().parse_request()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()


def outside(place: Path, store: Path) -> set[str]:
    """Every file of the sandbox but those of the store, of Ray and of the service's log."""
    found = set()
    for folder, names, files in os.walk(place):
        names[:] = [name for name in names if Path(folder, name) != store and name not in ("r", "a", ".hypothesis")]
        found |= {os.path.join(folder, name) for name in files}
    climbs = [Path("/tmp", name) for name in ("x", "x.png", "evil")]
    return found | {str(path) for path in climbs if path.exists()}


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {}
    with scratch(quick=False) as place, listening() as (listener, asked):
        secret, store = place / "secret.json", place / "store"
        secret.write_text(json.dumps({"pictures": TOKEN}))
        with serving(place / "a", store, workers=2, **LIMITS) as service:
            keys = Keys(service.records.objects, time.time)
            key, other, reader = (keys.add(name, scopes)[1] for name, scopes in (
                ("a", ["render", "read"]), ("b", ["render", "read"]), ("c", ["read"])
            ))  # fmt: skip
            watch = Watch(service, key, secret)
            _, made = watch.ask(
                "sane",
                "POST",
                "/v1/renders",
                json.dumps(hostile.wishes()).encode(),
                True,
                **{"Content-Type": "application/json"},
            )
            id = json.loads(made)["id"]
            wait_for(lambda: service.records.get(id).terminal, 120)
            before = outside(place, store)
            tree = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]
            pids = {part: service.pids(part) for part in ("replica", "proxy", "supervisor")}
            figures["processes"] = len(tree)
            document = json.loads(watch.ask("document", "GET", "/openapi.json", fine=True)[1])
            for name, attack in {
                "paths": lambda: paths(watch, document),
                "values": lambda: values(watch, listener),
                "bodies": lambda: bodies(watch),
                "uploads": lambda: uploads(watch, listener),
                "heads": lambda: heads(watch, id),
                "strangers": lambda: strangers(watch, id, other, reader),
                "sockets": lambda: sockets(watch),
                "slow": lambda: slow(watch, figures),
            }.items():
                begun, known = time.monotonic(), len(watch.wrong)
                attack()
                checks[f"{name}: refused"] = len(watch.wrong) == known
                checks[f"{name}: the service lives"] = watch.alive()
                say(name, round(time.monotonic() - begun, 1), "s", len(watch.wrong) - known, "wrong")
                for line in watch.wrong[known : known + 12]:
                    say("   ", line)
            checks["nothing asked of the network"] = asked == []
            checks["the same processes serve"] = {part: service.pids(part) for part in pids} == pids
            checks["nothing outside the store"] = outside(place, store) == before
            figures["peak_rss_mb"] = {part: _peak(pids[part]) for part in pids}
            figures |= {"sent": dict(watch.sent), "answers": {str(k): v for k, v in sorted(watch.answers.items())}}
            figures["wrong"] = watch.wrong[:50]
    report("hostile clients are refused, and leave no trace", checks, figures)


def _peak(pids: list[int]) -> int:
    """The most memory that these processes ever held, in MB."""
    peaks = [0]
    for pid in pids:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            peaks.append(int(found[1]) // 1024 if found else 0)
    return max(peaks)


if __name__ == "__main__":
    main()
