"""Ids: a letter for the kind, then the time, then chance. They sort by time, and none becomes a path unchecked."""

from __future__ import annotations

import random
import re

from raytile.serve.errors import NotFound

RENDER, UPLOAD, KEY = "r", "u", "k"
_REST = re.compile(r"[0-9a-f]{24}")


def new_id(kind: str, now: float, rng: random.Random) -> str:
    """`kind`, 12 hex digits of milliseconds since 1970 (`now` is in seconds), 12 of chance."""
    return f"{kind}{int(now * 1000):012x}{rng.getrandbits(48):012x}"


def made_at(id: str) -> float:
    """The seconds since 1970 that an id tells."""
    return int(id[1:13], 16) / 1000


def is_id(text: str, kind: str = RENDER) -> bool:
    return text[:1] == kind and _REST.fullmatch(text[1:]) is not None


def check_id(text: str, kind: str = RENDER) -> str:
    """The id itself; raises `NotFound` for anything else."""
    if not is_id(text, kind):
        what = {RENDER: "render", UPLOAD: "upload", KEY: "key"}[kind]
        raise NotFound(f"there is no such {what}", param="id")
    return text
