"""Stores of each kind, and records to put there."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raytile.canvas.bytes import Bytes, LocalBytes, MemoryBytes
from raytile.canvas.place import bytes_at
from raytile.plan.request import RenderRequest
from raytile.serve.names import new_id
from raytile.serve.records import Record

MakeRecord = Callable[..., Record]


@pytest.fixture(params=("local", "memory", "s3"))
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Bytes:
    """An empty store, of each kind."""
    if request.param == "local":
        return LocalBytes(tmp_path)
    if request.param == "memory":
        return MemoryBytes()
    request.getfixturevalue("s3")
    return bytes_at(f"s3://pictures/service-{random.getrandbits(40):x}")


@pytest.fixture
def make_record() -> MakeRecord:
    """Gives a new record at each call, a second after the last."""
    seconds, rng = itertools.count(1_700_000_000), random.Random(4)

    def make(owner: str = "local", **fields: object) -> Record:
        now = float(next(seconds))
        wish = RenderRequest(prompt="islands", width=96, height=64, model="toy", steps=2)
        given = {
            "id": new_id("r", now, rng), "owner": owner, "created": now, "updated": now, "request": wish,
            "shown": {"prompt": "islands"}, "evaluations": 12, "tiles": 6, "useful": 2, **fields,
        }  # fmt: skip
        return Record.model_validate(given)

    return make
