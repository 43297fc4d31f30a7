"""Objects by key: one contract over local disk, memory and a real S3 server."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raytile.canvas import bytes as contract
from raytile.canvas.bytes import Bytes, LocalBytes
from raytile.errors import CanvasError

KEYS = ("head.json", "a", "snapshots/3/12")
racing = pytest.mark.parametrize("racers", [2, 3])


@pytest.mark.parametrize("key", KEYS)
def test_nothing_is_there_at_first(objects: Bytes, key: str) -> None:
    assert objects.read(key) is None
    assert not objects.exists(key)
    assert objects.swap(key, "tag", b"1") is None
    objects.delete([key])
    assert objects.sizes() == {}


@pytest.mark.parametrize("key", KEYS)
def test_what_was_written_is_read(objects: Bytes, key: str) -> None:
    for data in (b"first", b"", os.urandom(100_000)):
        objects.write(key, data)
        found = objects.read(key)
        assert found is not None
        assert found[0] == data
        assert objects.read(key) == found  # the tag too
        assert objects.sizes()[key] == len(data)
        assert objects.exists(key)
    objects.delete([key, "another"])
    assert not objects.exists(key)


def test_create_once_and_swap_by_tag(objects: Bytes) -> None:
    first = objects.create("head.json", b"1")
    assert first is not None
    assert objects.read("head.json") == (b"1", first)
    assert objects.create("head.json", b"2") is None
    second = objects.swap("head.json", first, b"2")
    assert second not in (None, first)
    assert objects.swap("head.json", first, b"3") is None
    assert objects.read("head.json") == (b"2", second)
    objects.delete(["head.json"])
    assert objects.swap("head.json", str(second), b"4") is None
    assert objects.create("head.json", b"5") is not None


def test_objects_are_listed_below_a_folder(objects: Bytes) -> None:
    for number, key in enumerate(("s/1/0", "s/1/1", "s/10/0", "s2/1", "t")):
        objects.write(key, bytes(number))
    assert objects.sizes("s/") == {"s/1/0": 0, "s/1/1": 1, "s/10/0": 2}
    assert objects.sizes("s/1/") == {"s/1/0": 0, "s/1/1": 1}
    assert objects.sizes("none/") == {}
    assert len(objects.sizes()) == 5
    objects.delete(objects.sizes("s/"))
    assert objects.sizes() == {"s2/1": 3, "t": 4}


@racing
def test_of_racing_creators_one_wins(objects: Bytes, racers: int) -> None:
    for turn in range(4):
        tags = race(objects, f"{turn}.json", None, racers)
        (winner,) = [number for number, tag in enumerate(tags) if tag]
        assert objects.read(f"{turn}.json") == (b"%d" % winner, tags[winner])


@racing
def test_of_racing_swaps_one_wins(objects: Bytes, racers: int) -> None:
    tag = objects.create("head.json", b"none")
    for _ in range(4):
        tags = race(objects, "head.json", tag, racers)
        (winner,) = [number for number, each in enumerate(tags) if each]
        tag = tags[winner]
        assert objects.read("head.json") == (b"%d" % winner, tag)
        tag = objects.swap("head.json", str(tag), b"none")


def race(objects: Bytes, key: str, tag: str | None, racers: int) -> list[str | None]:
    together = threading.Barrier(racers)

    def attempt(number: int) -> str | None:
        together.wait()
        data = b"%d" % number
        return objects.create(key, data) if tag is None else objects.swap(key, tag, data)

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(attempt, range(racers)))


def test_readers_see_whole_objects(objects: Bytes) -> None:
    objects.write("a", b"0" * 200_000)
    over = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            objects.write("a", b"%d" % (number % 10) * 200_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            found = objects.read("a")
            assert found is not None
            assert len(found[0]) == 200_000
            assert len(set(found[0])) == 1
    finally:
        over.set()
        writer.join()


# on disk


def test_folders_that_are_empty_go(tmp_path: Path) -> None:
    objects = LocalBytes(tmp_path)
    objects.write("a/b/c", b"")
    objects.write("a/d", b"")
    objects.delete(["a/b/c"])
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["a", "d"]
    objects.delete(["a/d"])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    objects = LocalBytes(tmp_path / "gone")
    for act in (lambda: objects.write("a/b", b""), lambda: objects.create("a", b"")):
        with pytest.raises(CanvasError, match=r"cannot write a.* of .*gone: No such file"):
            act()
    assert objects.swap("a", "tag", b"") is None
    assert objects.sizes() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_let_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "LOCKED", 0.1)
    objects = LocalBytes(tmp_path)
    tag = objects.create("head.json", b"1")
    with (tmp_path / "head.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CanvasError, match=r"cannot write head\.json of .*held its lock for 0\.1 s; is it stopped"):
            objects.swap("head.json", str(tag), b"2")
    assert objects.swap("head.json", str(tag), b"2")
