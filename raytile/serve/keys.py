"""API keys: 256 random bits, kept as their SHA-256 (chance needs no slow hash), compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from raytile.canvas.bytes import Bytes
from raytile.errors import InvalidRequest
from raytile.serve.errors import Forbidden, Unauthorized
from raytile.serve.names import KEY, check_id, is_id, new_id

Scope = Literal["render", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
MARK = "rt_"
KEPT = 5.0
"""Seconds for which an answer of the store is believed: so soon a revoked key is refused."""
MOST_KEPT = 4096


@dataclass(frozen=True)
class Who:
    """Who asks: `owner` of what is made, and what is allowed."""

    owner: str
    scopes: frozenset[str]

    @property
    def sees(self) -> str | None:
        """Whose renders: one's own, or (None) everybody's."""
        return None if "admin" in self.scopes else self.owner

    def must(self, scope: Scope) -> None:
        """Raise `Forbidden` unless this is allowed."""
        if not {scope, "admin"} & self.scopes:
            raise Forbidden(f"this API key lacks the scope {scope!r}")


LOCAL = Who("local", frozenset(SCOPES))
"""Who asks a service without keys."""


class Key(BaseModel):
    """A key as it is kept: `sha256` of the whole text that its holder sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: float


class Keys:
    """The keys below a store. `clock` gives seconds since 1970."""

    def __init__(self, objects: Bytes, clock: Callable[[], float]) -> None:
        self._objects, self._clock = objects, clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Key | None]] = {}
        self._some: tuple[float, bool] = (-KEPT, False)

    def add(self, name: str, scopes: Iterable[str]) -> tuple[Key, str]:
        """Make a key; returns it and its text, which is told this once. Raises `InvalidRequest`."""
        wanted = tuple(scope for scope in SCOPES if scope in {*scopes})
        if not wanted or {*scopes} - {*SCOPES}:
            raise InvalidRequest(f"scopes: give some of {', '.join(SCOPES)}")
        now = self._clock()
        id = new_id(KEY, now, random.SystemRandom())
        text = f"{MARK}{id}_{secrets.token_urlsafe(32)}"
        key = Key(id=id, name=name[:64], sha256=_hashed(text), scopes=wanted, created=now)
        self._objects.write(_place(id), key.model_dump_json().encode())
        return key, text

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        ids = (name.removeprefix("keys/").removesuffix(".json") for name in self._objects.sizes("keys/"))
        return [key for id in sorted(ids) if is_id(id, KEY) and (key := self._read(id)) is not None]

    def revoke(self, id: str) -> None:
        """Refuse a key from now on (within seconds, everywhere). Raises `NotFound` for what is no id."""
        self._objects.delete([_place(check_id(id, KEY))])

    def any(self) -> bool:
        """Whether there is a key at all."""
        now = self._clock()
        if not 0 <= now - self._some[0] < KEPT:
            self._some = now, bool(self._objects.sizes("keys/"))
        return self._some[1]

    def who(self, header: str | None) -> Who:
        """Whom an Authorization header speaks for; raises `Unauthorized`."""
        scheme, _, text = (header or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthorized("no API key: send the header Authorization: Bearer rt_...")
        text = text.strip()
        id = text[len(MARK) :].partition("_")[0] if text.startswith(MARK) else ""
        key = self._find(id) if is_id(id, KEY) else None
        # Compared in any case, so that time does not tell which ids there are.
        same = hmac.compare_digest(_hashed(text), "" if key is None else key.sha256)
        if key is None or not same:
            raise Unauthorized("this API key is not known here, or was revoked")
        return Who(key.id, frozenset(key.scopes))

    def _find(self, id: str) -> Key | None:
        now = self._clock()
        with self._lock:
            kept = self._known.get(id)
        if kept is not None and 0 <= now - kept[0] < KEPT:
            return kept[1]
        key = self._read(id)
        with self._lock:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[id] = now, key
        return key

    def _read(self, id: str) -> Key | None:
        held = self._objects.read(_place(id))
        return None if held is None else Key.model_validate_json(held[0])


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _place(id: str) -> str:
    return f"keys/{id}.json"
