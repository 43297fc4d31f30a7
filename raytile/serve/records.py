"""What the service knows of each render: one JSON object beside its canvas, changed by compare-and-swap alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raytile.canvas.bytes import Bytes
from raytile.errors import CanvasError
from raytile.plan.request import RenderRequest
from raytile.serve.errors import Conflict, NotFound
from raytile.serve.names import check_id, is_id, made_at

State = Literal["queued", "running", "finished", "failed", "cancelled"]
Kind = Literal["render", "repaint", "upscale"]
OLD = 60.0
"""Seconds after which an id was not made just now."""
ENDED = ("finished", "failed", "cancelled")


class Record(BaseModel):
    """One render. Times are seconds since 1970.

    `request`: resolved, its paths are the server's own. `shown`: the wish as its client wrote it, the only form that
    clients see. `priority`: from -10 to 10. `evaluations`, `tiles`, `tile` (pixels a side), `useful` (workers that can
    have work at once): from the plan. `service`: token of the supervisor that holds it, `claims`: how often it was
    taken. `summary`: the run's figures, `digest`: of its pixels, once it is finished. `idempotency`: where the
    client's key for it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    owner: str
    created: float
    updated: float
    state: State = "queued"
    kind: Kind = "render"
    parent: str | None = None
    request: RenderRequest
    shown: dict[str, Any]
    priority: int = Field(default=0, ge=-10, le=10)
    evaluations: int
    tiles: int
    tile: int = 0
    useful: int
    service: str | None = None
    claims: int = 0
    cancel_asked: bool = False
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    cancel_on_disconnect: bool = False
    digest: str | None = None
    summary: dict[str, Any] | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    idempotency: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether it has ended: no record leaves such a state."""
        return self.state in ENDED

    def but(self, **changes: Any) -> Record:
        """A copy with these fields changed, checked like any other."""
        return Record.model_validate({**self.model_dump(), **changes})


class Records:
    """The records below a store. Thread-safe, and any number of services may use one store.

    Methods raise `NotFound` for what is not there, `CanvasError` for a store that does not do its part. `clock` says
    the seconds since 1970."""

    def __init__(self, objects: Bytes, clock: Callable[[], float]) -> None:
        self.objects, self.clock = objects, clock

    def add(
        self,
        record: Record,
        idempotency: tuple[str, str] | None = None,
        first: Callable[[Record], None] = lambda _: None,
    ) -> tuple[Record, bool]:
        """Keep a new record, after `first` was told of it; returns it, and True.

        `idempotency`: the client's key and the digest of what it sent. Sent again, the first record is returned, and
        False; with another body raises `Conflict`. Whoever dies in the midst of it has made nothing, or all of it is
        made by the repetition."""
        if idempotency is not None:
            key, body = idempotency
            place = _idempotency(record.owner, key)
            record = record.but(id=self._first(record, place, body), idempotency=place)
            before = self.repeated(record.owner, key, body)
            if before is not None:
                return before, False
        first(record)
        self._mark(record)  # before the record: what is queued is always found
        if self.objects.create(_record(record.id), _json(record)) is None:
            return self.get(record.id), False
        if made_at(record.id) < self.clock() - OLD:  # a late repetition: the marks may have been swept
            self._mark(record)
        return record, True

    def _mark(self, record: Record) -> None:
        self.objects.write(f"owners/{record.owner}/{record.id}", b"")
        self.objects.write(f"queue/{record.id}", b"")

    def repeated(self, owner: str, key: str, body: str) -> Record | None:
        """The render that this idempotency key stands for already; raises `Conflict` if it stands for another body."""
        held = self.objects.read(_idempotency(owner, key))
        if held is None:
            return None
        id = _agreed(json.loads(held[0]), body)
        try:
            return self.get(id)
        except NotFound:  # whoever was first died in the midst of it
            return None

    def get(self, id: str) -> Record:
        return self._read(id)[0]

    def change(self, id: str, change: Callable[[Record], Record | None]) -> Record | None:
        """Put what `change` makes of the record in its place, applied again to what others made of it meanwhile.

        Returns the new record; None if `change` gave None, which leaves all as it is. A render that has ended is in
        the queue no more."""
        while True:
            before, tag = self._read(id)
            after = change(before)
            if after is not None and before.terminal and after.state != before.state:
                raise Conflict(f"render {id} is {before.state}", param="id")
            if after is not None:
                after = after.but(updated=self.clock())
                if self.objects.swap(_record(id), tag, _json(after)) is None:
                    continue
            if (after or before).terminal:
                self.objects.delete([f"queue/{id}"])
            return after

    def queued_ids(self) -> list[str]:
        """The renders that have not ended, the oldest first."""
        return sorted(id for id in (key.rpartition("/")[2] for key in self.objects.sizes("queue/")) if is_id(id))

    def owned(self, owner: str | None, after: str | None = None, limit: int | None = None) -> list[str]:
        """The renders of an owner (None: of everybody), the newest first; of those older than `after`, `limit`."""
        below = "owners/" if owner is None else f"owners/{owner}/"
        found = sorted({key.rpartition("/")[2] for key in self.objects.sizes(below)}, reverse=True)
        return [id for id in found if is_id(id) and (after is None or id < after)][:limit]

    def canvas(self, id: str) -> str:
        """Where the render's canvas lies."""
        return f"{self.objects.where}/renders/{check_id(id)}/canvas.zarr"

    def remove(self, id: str) -> None:
        """Forget a render, its picture and its events; what it is found by goes last, so that it can be done again."""
        record = self.get(id)
        below = f"renders/{id}/"
        found = [key for key in self.objects.sizes(below) if key != _record(id)]
        locks = [key.removesuffix(".json") + ".lock" for key in found if key.endswith(".json")]  # as `LocalBytes` has
        self.objects.delete([*found, *locks, f"queue/{id}"])
        if record.idempotency is not None:
            self.objects.delete([record.idempotency, record.idempotency.removesuffix("json") + "lock"])
        self.objects.delete([f"{below}record.lock", _record(id)])
        self.unlist(record.owner, id)

    def marked(self) -> list[tuple[str, str]]:
        """Owner and id of every render that is listed."""
        keys = (key.split("/") for key in self.objects.sizes("owners/"))
        return sorted((owner, id) for _, owner, id in keys if is_id(id))

    def unlist(self, owner: str, id: str) -> None:
        """Take a render that is no more out of its owner's list."""
        self.objects.delete([f"owners/{owner}/{id}"])

    def forget_marks(self, before: float) -> None:
        """Take out of the queue what whoever began to add it before that second never kept."""
        for id in self.queued_ids():
            if made_at(id) < before and not self.objects.exists(_record(id)):
                self.objects.delete([f"queue/{id}"])

    def _first(self, record: Record, place: str, body: str) -> str:
        """The id that the idempotency key at `place` stands for."""
        mine = {"id": record.id, "body_sha256": body}
        if self.objects.create(place, json.dumps(mine).encode()) is not None:
            return record.id
        held = self.objects.read(place)
        return _agreed(mine if held is None else json.loads(held[0]), body)

    def _read(self, id: str) -> tuple[Record, str]:
        held = self.objects.read(_record(check_id(id)))
        if held is None:
            raise NotFound("there is no such render", param="id")
        try:
            return Record.model_validate_json(held[0]), held[1]
        except ValidationError as error:
            raise CanvasError(
                f"{_record(id)} of {self.objects.where} does not read: {error.errors()[0]['msg']}"
            ) from None


def _idempotency(owner: str, key: str) -> str:
    return f"idempotency/{hashlib.sha256(f'{owner} {key}'.encode()).hexdigest()}.json"


def _agreed(held: dict[str, str], body: str) -> str:
    if held["body_sha256"] != body:
        raise Conflict("this Idempotency-Key was used for another request: choose a new one", "Idempotency-Key")
    return held["id"]


def _record(id: str) -> str:
    return f"renders/{id}/record.json"


def _json(record: Record) -> bytes:
    return record.model_dump_json().encode()
