"""Where a head is kept: read it with its tag, change it only if the tag still stands."""

from __future__ import annotations

from raytile.canvas.bytes import Bytes
from raytile.canvas.head import Head, HeadConflict
from raytile.errors import CanvasError

HEAD = "head.json"


class HeadStore:
    """The head of the canvas whose objects these are. A tag names the bytes that were read."""

    def __init__(self, objects: Bytes) -> None:
        self._objects = objects
        self.where = objects.where

    def find(self) -> tuple[Head, str] | None:
        """The head and its tag; None when there is none, `CanvasError` when it does not read."""
        found = self._objects.read(HEAD)
        return None if found is None else (Head.from_bytes(found[0], self.where), found[1])

    def read(self) -> tuple[Head, str]:
        """The head and its tag; `CanvasError` when there is none, or it does not read."""
        found = self.find()
        if found is None:
            raise CanvasError(f"{self.where} is not a raytile canvas: it has no {HEAD}")
        return found

    def create(self, head: Head) -> str:
        """Write the first head; returns its tag; `HeadConflict` when there is one already."""
        tag = self._objects.create(HEAD, head.to_bytes())
        if tag is None:
            raise HeadConflict(f"{self.where} has a head already: another process has just made this canvas")
        return tag

    def swap(self, tag: str, head: Head) -> str:
        """Put `head` in place of the one `tag` names; returns its tag; `HeadConflict` if that is stale."""
        new = self._objects.swap(HEAD, tag, head.to_bytes())
        if new is None:
            raise HeadConflict(f"the head of {self.where} was changed by someone else")
        return new
