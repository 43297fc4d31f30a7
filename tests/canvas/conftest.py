"""The three kinds of places that objects may lie in."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from raytile.canvas.bytes import Bytes, LocalBytes, MemoryBytes
from raytile.canvas.place import bytes_at

PLACES = ("local", "memory", "s3")


@pytest.fixture(params=PLACES)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Bytes:
    """An empty place for objects, of each kind."""
    if request.param == "local":
        return LocalBytes(tmp_path)
    return MemoryBytes() if request.param == "memory" else bytes_at(request.getfixturevalue("bucket"))


@pytest.fixture
def bucket(s3: object) -> str:  # noqa: ARG001 (the server that has to run)
    """The URL of a canvas that is not there yet, in the bucket of a running server."""
    return f"s3://pictures/{secrets.token_hex(4)}/a.zarr"


@pytest.fixture(params=["local", "s3"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives an empty place at each call; the order of requests is the same on a disk, where trying is quick."""

    def local() -> str:
        place = tmp_path / secrets.token_hex(4) / "a.zarr"
        place.mkdir(parents=True)
        return str(place)

    if request.param == "s3":
        request.getfixturevalue("s3")
        return lambda: f"s3://pictures/{secrets.token_hex(4)}/a.zarr"
    return local
