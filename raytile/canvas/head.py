"""The head: the small object beside the zarr that says what is true of the canvas."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from raytile.errors import CanvasError
from raytile.plan.request import RenderRequest

SCHEMA_VERSION = 2
READS = (1, 2)  # the fields that version 2 added have defaults
State = Literal["running", "finished", "failed", "cancelled"]
Segments = tuple[tuple[int, int], ...]
Count = Annotated[int, Field(ge=0)]


class HeadConflict(CanvasError):
    """Someone else changed the head since it was read: this writer owns the canvas no more."""


class Owner(BaseModel):
    """Who renders this canvas: a process on a host, and a random token that no other run has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    token: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


class ModelName(BaseModel):
    """Which model paints: its name, and the SHA-256 of its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str


class Head(BaseModel):
    """All that is true of a canvas beside its tiles. Nothing is called done before it is safe on disk.

    `device_digest`: what the workers' devices compute on the probe batch, None until the first has said.
    `versions`: of the libraries that made it. `created`, `updated`: seconds since 1970 by the owner's clock.
    `level` of `levels` and `step` of `steps`: how far denoising came. `tiles_done`: finished tiles as compact
    ascending segments [first, last], both ends included. `summary`: the run's figures once it ended.

    `claims`: how many runs took the canvas over. `lease`: seconds after which a head that has not changed has a dead
    owner; `beat` counts up to change it. `cancel_asked`: someone wants the owner to stop. `snapshot`: phase of the
    last whole snapshot. `denoised`: the final latents of every tile are in the canvas. `workers`: how many paint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    request: RenderRequest
    plan_hash: str
    model: ModelName
    device_digest: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    state: State = "running"
    owner: Owner
    created: float
    updated: float
    level: Count = 0
    levels: Count = 1
    step: Count = 0
    steps: Count = 0
    tiles_total: int = Field(ge=1)
    tiles_done: Segments = ()
    summary: dict[str, Any] | None = None
    error: str | None = None
    claims: Count = 0
    lease: float = Field(default=15.0, gt=0, allow_inf_nan=False)
    beat: Count = 0
    cancel_asked: bool = False
    snapshot: int | None = Field(default=None, ge=0)
    denoised: bool = False
    workers: Count = 0

    @model_validator(mode="after")
    def _segments_are_compact(self) -> Head:
        before = -2
        for first, last in self.tiles_done:
            if first <= before + 1 or last < first:
                raise ValueError("tiles_done must be ascending segments with gaps between them")
            before = last
        if self.tiles_done and (self.tiles_done[0][0] < 0 or before >= self.tiles_total):
            raise ValueError(f"tiles_done reaches beyond the {self.tiles_total} tiles")
        return self

    @property
    def done(self) -> int:
        """How many tiles are finished."""
        return sum(last - first + 1 for first, last in self.tiles_done)

    def has(self, tile: int) -> bool:
        """Whether this tile is finished."""
        return any(first <= tile <= last for first, last in self.tiles_done)

    def missing(self) -> Iterable[int]:
        """The tiles not finished yet, ascending."""
        start = 0
        for first, last in (*self.tiles_done, (self.tiles_total, self.tiles_total)):
            yield from range(start, first)
            start = last + 1

    def but(self, **changes: Any) -> Head:
        """A copy with these fields changed, checked like any other head."""
        return Head.model_validate({**self.model_dump(), **changes})

    def with_tiles(self, tiles: Iterable[int], updated: float) -> Head:
        """A copy in which these tiles too are finished."""
        return self.but(tiles_done=add_tiles(self.tiles_done, tiles), updated=updated)

    def to_bytes(self) -> bytes:
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Head:
        """Read a head; raises `CanvasError` naming `where` and, for another schema, the version found."""
        try:
            values = json.loads(data)
        except ValueError as error:
            raise CanvasError(f"the head of {where} is not JSON ({error}): the canvas is damaged") from None
        found = values.get("schema_version") if isinstance(values, dict) else None
        if type(found) is not int or found not in READS:
            raise CanvasError(
                f"the head of {where} has schema version {found!r}, this raytile reads"
                f" {' and '.join(map(str, READS))}: use the raytile that wrote it"
            )
        try:
            return cls.model_validate({**values, "schema_version": SCHEMA_VERSION})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CanvasError(f"the head of {where} does not read: {field}: {first['msg']}") from None


def add_tiles(segments: Segments, tiles: Iterable[int]) -> Segments:
    """The same segments with these tiles in them too, compact again."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*segments, *((tile, tile) for tile in tiles)]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)
