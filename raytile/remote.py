"""A client of the service: what `raytile remote` does over HTTP. Imports nothing heavy until it is called."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytile.errors import CanvasError, ClusterError, InvalidRequest, RenderCancelled, RenderFailed, shown

if TYPE_CHECKING:
    import httpx2

    from raytile.plan.request import RenderRequest

TRIES, AWAY = 8, 3
"""How often a service that is busy, or does not answer at all, is asked again."""
LONGEST = 60.0
ENDED = ("finished", "failed", "cancelled")
LOOPBACK = re.compile(r"https?://(127\.|localhost(?=[:/]|$)|\[::1\])")
RENDER = re.compile(r"r[0-9a-f]{24}")
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}


@dataclass
class Remote:
    """A service at `url`, asked with `key` where it wants one. `sleep` and `news` (a line for people) are told when it
    has to be asked again.

    Every method raises `InvalidRequest` for what the service refuses, in its words, and `ClusterError` for a service
    that does not answer."""

    url: str
    key: str | None = None
    sleep: Callable[[float], None] = time.sleep
    news: Callable[[str], None] = lambda _: None
    transport: httpx2.BaseTransport | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", self.url):
            raise InvalidRequest(f"url: write http://HOST:PORT or https://HOST (got {shown(self.url)})")
        if self.key is not None and not re.fullmatch(r"[\x21-\x7e]+", self.key):
            raise InvalidRequest("key: must be one word of plain letters: copy it anew")
        self.url = self.url.rstrip("/")

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The JSON that the service answers; asked again while it is busy or away."""
        with self._asked(method, path, **more) as answer:
            answer.read()
            try:
                found = answer.json() if answer.content else {}
            except ValueError:
                raise ClusterError(f"{self.url} does not answer as raytile's service does: check --url") from None
        return found if isinstance(found, dict) else {}

    def submit(self, wish: Mapping[str, Any], path: str = "/v1/renders") -> dict[str, Any]:
        """Ask for a render; asked again it is still one."""
        return self.ask("POST", path, json=dict(wish), headers={"Idempotency-Key": secrets.token_hex(16)})

    def upload(self, file: str | Path) -> str:
        """Send a picture; its id."""
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise InvalidRequest(f"cannot read {file}: {error.strerror}") from None
        headers = {"Content-Type": "application/octet-stream"}
        return str(self.ask("POST", "/v1/uploads", content=data, headers=headers)["id"])

    def wish(self, request: RenderRequest, said: set[str]) -> dict[str, Any]:
        """What a client asks the service for: the fields of `request` that were `said` or are not as ever, its pictures
        sent there."""
        values = request.model_dump(mode="json", exclude_defaults=True)
        values |= request.model_dump(mode="json", include=said)
        sent: dict[str, dict[str, str]] = {}

        def send(picture: Mapping[str, Any]) -> dict[str, str]:
            path = str(picture["path"])
            name = Path(path).name
            if path not in sent:
                sent[path] = {"render": name} if RENDER.fullmatch(name) else {"upload": self.upload(path)}
            return sent[path]

        for name in ("source", "control"):
            if values.get(name):
                values[name] = send(values[name])
        for name in ("regions", "repaint"):
            for shape in values.get(name, ()):
                if shape.get("mask"):
                    shape["mask"] = send(shape["mask"])
        return values

    def events(self, id: str) -> Iterator[dict[str, Any]]:
        """What happens in a render, from its beginning to its end: {"event": name, "data": {...}}; goes on where it
        was when the connection is lost."""
        last, ended, failures = "0", False, 0
        while not ended:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            import httpx2

            try:
                with self._asked("GET", f"/v1/renders/{id}/events", headers=headers, read=45.0) as answer:
                    for event in parsed(answer.iter_lines()):
                        last, failures = event["id"] or last, 0
                        yield event
                        ended = ended or event["event"] in ENDED
            except httpx2.TransportError:
                pass
            if not ended:
                failures += 1
                if failures > TRIES:
                    raise ClusterError(f"{self.url} does not answer any more: raytile remote status {id} later")
                self.sleep(min(LONGEST, 0.5 * 2**failures))

    def ended(self, id: str) -> dict[str, Any]:
        """The record of a render that has ended. Raises `RenderFailed` or `RenderCancelled` if that was not well."""
        found = self.ask("GET", f"/v1/renders/{id}")
        if found.get("state") == "failed":
            raise RenderFailed(f"{id} failed: {found.get('error') or 'the service did not say why'}")
        if found.get("state") == "cancelled":
            raise RenderCancelled(f"{id} was cancelled")
        return found

    def download(self, id: str, file: Path, overwrite: bool = False, partial: bool = False) -> int:
        """Write the picture to `file`, PNG, JPEG, WebP or TIFF by its ending; returns its bytes. It appears whole."""
        check_target(file, overwrite)
        import httpx2

        fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
        asked = {"format": FORMATS[file.suffix.lower()], **({"partial": "1"} if partial else {})}
        etag, failures = "", 0
        try:
            with fresh.open("wb") as opened:
                while True:
                    at = opened.tell()
                    headers = {"Range": f"bytes={at}-", "If-Range": etag} if at and etag else {}
                    try:
                        with self._asked(
                            "GET", f"/v1/renders/{id}/content", params=asked, headers=headers, follow_redirects=True
                        ) as answer:
                            if answer.status_code != 206:
                                opened.seek(0)
                                opened.truncate()
                            etag = answer.headers.get("etag", "")
                            for piece in answer.iter_bytes():
                                opened.write(piece)
                            break
                    except httpx2.TransportError as error:
                        failures += 1
                        if failures > TRIES:
                            raise ClusterError(f"{self.url}: the download broke off: {error}") from None
                        self.sleep(min(LONGEST, 0.5 * 2**failures))
            size = fresh.stat().st_size
            fresh.replace(file)
        except OSError as error:
            raise CanvasError(f"cannot write {file}: {error.strerror or error}") from None
        finally:
            fresh.unlink(missing_ok=True)
        return size

    @contextmanager
    def _asked(
        self, method: str, path: str, read: float = 600.0, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Iterator[httpx2.Response]:
        """An answer that is none of refusal, its body unread."""
        import httpx2

        sent = {**(headers or {}), **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        with httpx2.Client(
            timeout=httpx2.Timeout(30.0, read=read), trust_env=False, transport=self.transport
        ) as client:
            following = more.pop("follow_redirects", False)
            for chance in range(TRIES + 1):
                answer, why = None, ""
                try:
                    asked = client.build_request(method, self.url + path, headers=sent, **more)
                    answer = client.send(asked, stream=True, follow_redirects=following)
                except httpx2.TransportError as error:
                    why = f"{self.url} does not answer ({error}): is the service there? check --url"
                if answer is not None:
                    try:
                        if answer.status_code < 400:
                            yield answer
                            return
                        answer.read()
                        why = said(answer)
                        if answer.status_code not in (429, 502, 503, 504):
                            raise InvalidRequest(why) if answer.status_code < 500 else ClusterError(why)
                    finally:
                        answer.close()
                if chance == (AWAY if answer is None else TRIES):
                    busy = answer is not None and answer.status_code == 429
                    raise InvalidRequest(why) if busy else ClusterError(why)
                pause = pause_of(answer, chance)
                self.news(f"{why}; asking again in {pause:g} s")
                self.sleep(pause)


def parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events (WHATWG HTML, section 9.2): id, event, and data as JSON."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name:  # else a comment
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
        elif "data" in fields:
            try:
                data = json.loads(fields["data"])
            except ValueError:
                data = {}
            yield {"id": fields.get("id", ""), "event": fields.get("event", "message"), "data": data}
            fields = {}
        else:
            fields = {}


def said(answer: httpx2.Response) -> str:
    """What a refusal says, in one line."""
    try:
        error = answer.json()["error"]
        words, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError):
        return f"the service answered {answer.status_code}"
    words = " ".join(words.split())
    return words if not param or words.startswith(f"{param}:") else f"{words} ({param})"


def pause_of(answer: httpx2.Response | None, chance: int) -> float:
    """Seconds until a service is asked again: what it says, or longer each time."""
    asked = "" if answer is None else answer.headers.get("retry-after", "")
    return min(LONGEST, float(asked) if asked.isdecimal() else 0.5 * 2**chance)


def check_target(file: Path, overwrite: bool) -> None:
    """Raise `InvalidRequest` unless a picture can be written to `file`."""
    if file.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"cannot write {file.name}: the name must end in one of {', '.join(FORMATS)}")
    if file.exists() and not overwrite:
        raise InvalidRequest(f"{file} exists: choose another name, or replace it with --overwrite")
    if not file.absolute().parent.is_dir():
        raise InvalidRequest(f"cannot write {file}: there is no directory {file.parent}")
