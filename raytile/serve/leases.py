"""Which services on a store are alive: each shows signs of life; what a silent one held is anybody's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress

from raytile.serve.records import Record, Records

BEATS = 4
"""Signs of life in a lease."""
FORGOTTEN = 86_400.0
"""Seconds of silence after which the last sign of a service is removed."""


class Leases:
    """The signs of life of service `token`, and what is known of others'.

    A service is silent by the watcher's own `clock` (seconds that only go forward), so that machines need not agree on
    the time; a lease lasts as long as the longer of the two services' own."""

    def __init__(self, records: Records, token: str, lease: float, clock: Callable[[], float]) -> None:
        self._records, self._token, self._lease, self._clock = records, token, lease, clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._dead: frozenset[str] = frozenset()

    def beat(self, number: int) -> None:
        """Show a sign of life: due `BEATS` times in a lease."""
        said = {"beat": number, "lease": self._lease, "at": round(self._records.clock(), 3)}
        self._records.objects.write(_key(self._token), json.dumps(said).encode())

    def leave(self) -> None:
        """This service ends: nobody need wait for a lease."""
        self._records.objects.delete([_key(self._token)])

    def listen(self, records: Iterable[Record]) -> None:
        """Look at the signs of those who hold `records`."""
        services = {record.service for record in records if record.service not in (None, self._token)}
        self._seen = {service: seen for service, seen in self._seen.items() if service in services}
        dead = set()
        for service in sorted(service for service in services if service is not None):
            found = self._records.objects.read(_key(service))
            if found is None:  # it left
                dead.add(service)
            elif self._seen.get(service, ("", 0.0))[0] != found[1]:
                self._seen[service] = (found[1], self._clock())
            elif self._clock() - self._seen[service][1] > max(self._lease, _lease(found[0])):
                dead.add(service)
        self._dead = frozenset(dead)

    def ours(self, record: Record) -> bool:
        """Whether this render may be taken: nobody holds it, or whoever does has shown no life for a lease."""
        return record.service in (None, self._token) or record.service in self._dead

    def forget(self) -> None:
        """Remove the signs of services that have been silent for a day."""
        objects, now = self._records.objects, self._records.clock()
        for key in objects.sizes("services/"):
            with suppress(ValueError, KeyError, TypeError):
                held = objects.read(key)
                if held is not None and now - json.loads(held[0])["at"] > FORGOTTEN:
                    objects.delete([key])


def _lease(sign: bytes) -> float:
    try:
        return float(json.loads(sign)["lease"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _key(service: str) -> str:
    return f"services/{service}.json"
