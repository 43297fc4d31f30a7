"""Small objects by key below one place: what heads and snapshots are kept in. The contract, on disk and in memory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from raytile.canvas.disk import explained, replace, sync, sync_up
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from zarr.storage import StoreLike

T = TypeVar("T")
LOCKED = 10.0  # seconds to wait for another process that changes the same object


class Bytes(Protocol):
    """Objects by key (`a/b/c`) below `where`. A tag names what was read, as an ETag does.

    What a call has written is safe when it returns, and readers see an object whole or not at all. Every method
    raises `CanvasError` when the place does not do its part."""

    where: str

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object and its tag; None if there is none."""
        ...

    def exists(self, key: str) -> bool: ...

    def write(self, key: str, data: bytes) -> None:
        """Put the object there, whatever stood there."""
        ...

    def create(self, key: str, data: bytes) -> str | None:
        """Put the object there if there is none, and return its tag; else None. Of many callers one gets a tag."""
        ...

    def swap(self, key: str, tag: str, data: bytes) -> str | None:
        """Replace the object that `tag` names, and return the new one's tag; None if it is no longer that one."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these objects; one that is not there is no error."""
        ...

    def sizes(self, below: str = "") -> dict[str, int]:
        """Bytes of every object by key, of those whose keys begin with `below` (empty or ending in a slash)."""
        ...

    def arrays(self) -> StoreLike:
        """The same place, as zarr takes it."""
        ...

    def run(self, doing: str, act: Callable[[], T]) -> T:
        """Run what works on `arrays()`, and can be done twice, with this place's retries and errors."""
        ...

    def settle(self, key: str) -> None:
        """Make safe an object that was written through `arrays()`."""
        ...


class LocalBytes:
    """Files below a directory of a local (or properly shared) file system.

    `create` and `swap` of NAME.json hold an exclusive lock on NAME.lock, and everything comes into place by a rename:
    a reader needs no lock. Locks are not objects."""

    def __init__(self, directory: Path) -> None:
        self.where = str(directory)
        self._root = directory

    def read(self, key: str) -> tuple[bytes, str] | None:
        with explained(f"read {key} of {self.where}"):
            try:
                data = (self._root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return data, _tag(data)

    def exists(self, key: str) -> bool:
        return (self._root / key).is_file()

    def write(self, key: str, data: bytes) -> None:
        file = self._root / key
        fresh = f".{file.name}.{os.getpid()}-{threading.get_ident()}.new"
        with explained(f"write {key} of {self.where}"):
            for chance in range(100):
                try:
                    self._make_folders(file.parent)
                    replace(file, data, fresh)
                    return
                except FileNotFoundError:  # someone removed the folder meanwhile: `delete` leaves no empty ones
                    if chance == 99 or not self._root.is_dir():
                        raise

    def create(self, key: str, data: bytes) -> str | None:
        with explained(f"write {key} of {self.where}"):
            self._make_folders((self._root / key).parent)
        with self._locked(key):
            return None if (self._root / key).exists() else self._put(key, data)

    def swap(self, key: str, tag: str, data: bytes) -> str | None:
        if not (self._root / key).exists():
            return None
        with self._locked(key):
            found = self.read(key)
            return self._put(key, data) if found and found[1] == tag else None

    def delete(self, keys: Iterable[str]) -> None:
        folders = set()
        with explained(f"remove files below {self.where}"):
            for key in keys:
                (self._root / key).unlink(missing_ok=True)
                folders.add((self._root / key).parent)
        for folder in sorted(folders, reverse=True):
            with suppress(OSError):  # not empty, or gone already
                while folder != self._root:
                    folder.rmdir()
                    folder = folder.parent

    def sizes(self, below: str = "") -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self._root / below):
            for name in names:
                if name.endswith(".lock"):
                    continue
                file = os.path.join(folder, name)
                with suppress(FileNotFoundError):  # a temporary file, renamed while we looked
                    found[os.path.relpath(file, self._root)] = os.lstat(file).st_size
        return found

    def arrays(self) -> StoreLike:
        return self.where

    def run(self, doing: str, act: Callable[[], T]) -> T:
        with explained(doing):
            return act()

    def settle(self, key: str) -> None:
        with explained(f"write {key} of {self.where}"):
            sync_up(self._root / key, self._root / key.partition("/")[0])

    def _make_folders(self, folder: Path) -> None:
        """Make the missing directories down to `folder`, each flushed into the one above; never the place itself."""
        if folder != self._root and not folder.is_dir():
            self._make_folders(folder.parent)
            folder.mkdir(exist_ok=True)
            sync(folder.parent)

    def _put(self, key: str, data: bytes) -> str:
        replace(self._root / key, data)
        return _tag(data)

    def _lock(self, descriptor: int, key: str) -> None:
        """Wait for the lock, but not for ever: whoever holds it may have been stopped (SIGSTOP) in the midst of it."""
        end = time.monotonic() + LOCKED
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise CanvasError(
                        f"cannot write {key} of {self.where}: another process has held its lock for {LOCKED:g} s;"
                        " is it stopped?"
                    ) from None
                time.sleep(0.002)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        with explained(f"write {key} of {self.where}"):
            descriptor = os.open((self._root / key).with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._lock(descriptor, key)
                yield
            finally:
                os.close(descriptor)


class MemoryBytes:
    """The same contract inside one process."""

    def __init__(self) -> None:
        self.where = "memory"
        self._lock = threading.Lock()
        self._objects: dict[str, bytes] = {}

    def read(self, key: str) -> tuple[bytes, str] | None:
        data = self._objects.get(key)
        return None if data is None else (data, _tag(data))

    def exists(self, key: str) -> bool:
        return key in self._objects

    def write(self, key: str, data: bytes) -> None:
        self._objects[key] = data

    def create(self, key: str, data: bytes) -> str | None:
        with self._lock:
            if key in self._objects:
                return None
            self._objects[key] = data
            return _tag(data)

    def swap(self, key: str, tag: str, data: bytes) -> str | None:
        with self._lock:
            if key not in self._objects or _tag(self._objects[key]) != tag:
                return None
            self._objects[key] = data
            return _tag(data)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    def sizes(self, below: str = "") -> dict[str, int]:
        return {key: len(data) for key, data in list(self._objects.items()) if key.startswith(below)}

    def arrays(self) -> StoreLike:
        raise CanvasError("memory holds no arrays")

    def run(self, doing: str, act: Callable[[], T]) -> T:  # noqa: ARG002 (memory never has trouble to tell)
        return act()

    def settle(self, key: str) -> None:
        pass


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
