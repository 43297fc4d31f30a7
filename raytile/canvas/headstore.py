"""Where a head is kept: read it with its tag, change it only if the tag still stands."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from raytile.canvas.disk import explained, replace
from raytile.canvas.head import Head, HeadConflict
from raytile.errors import CanvasError

HEAD = "head.json"
LOCK = "head.lock"


class HeadStore(Protocol):
    """One head. A tag names the bytes that were read, as an ETag does; equal tags mean equal heads."""

    def read(self) -> tuple[Head, str]:
        """The head and its tag; `CanvasError` when there is none, or it does not read."""
        ...

    def create(self, head: Head) -> str:
        """Write the first head; returns its tag; `HeadConflict` when there is one already."""
        ...

    def swap(self, tag: str, head: Head) -> str:
        """Put `head` in place of the one `tag` names; returns its tag; `HeadConflict` if that is stale."""
        ...


class LocalHeadStore:
    """The head as `head.json` in a directory on a local (or properly shared) file system.

    Writers take an exclusive lock on `head.lock` and put the new head in place by a rename: a reader needs no
    lock and sees the old head or the new one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> tuple[Head, str]:
        data = self._bytes()
        if data is None:
            raise CanvasError(f"{self._directory} is not a raytile canvas: it has no {HEAD}")
        return Head.from_bytes(data, str(self._directory)), _tag(data)

    def create(self, head: Head) -> str:
        with self._locked():
            if self._bytes() is not None:
                raise HeadConflict(f"{self._directory} has a head already")
            return self._put(head)

    def swap(self, tag: str, head: Head) -> str:
        with self._locked():
            data = self._bytes()
            if data is None or _tag(data) != tag:
                raise HeadConflict(_lost(str(self._directory)))
            return self._put(head)

    def _put(self, head: Head) -> str:
        data = head.to_bytes()
        replace(self._directory / HEAD, data)
        return _tag(data)

    def _bytes(self) -> bytes | None:
        with explained(f"read the head of {self._directory}"):
            try:
                return (self._directory / HEAD).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with explained(f"write the head of {self._directory}"):
            descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


class MemoryHeadStore:
    """The same contract inside one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: bytes | None = None

    def read(self) -> tuple[Head, str]:
        data = self._data
        if data is None:
            raise CanvasError("no head in memory yet")
        return Head.from_bytes(data, "memory"), _tag(data)

    def create(self, head: Head) -> str:
        with self._lock:
            if self._data is not None:
                raise HeadConflict("memory has a head already")
            self._data = head.to_bytes()
            return _tag(self._data)

    def swap(self, tag: str, head: Head) -> str:
        with self._lock:
            if self._data is None or _tag(self._data) != tag:
                raise HeadConflict(_lost("memory"))
            self._data = head.to_bytes()
            return _tag(self._data)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _lost(where: str) -> str:
    return f"the head of {where} was changed by someone else: another process renders this canvas"
