"""The head says what is true, and of several writers that saw the same head one wins: one contract, every store."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from canvas_parts import head, owner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raytile.canvas.bytes import Bytes, LocalBytes
from raytile.canvas.head import Head, HeadConflict, add_tiles
from raytile.canvas.headstore import HeadStore
from raytile.errors import CanvasError

TOTAL = 40
tiles = st.lists(st.integers(0, TOTAL - 1))


@given(tiles, tiles)
def test_finished_tiles_are_a_set_in_compact_segments(first: list[int], second: list[int]) -> None:
    found = head(tiles_total=TOTAL).with_tiles(first, 1.0).with_tiles(second, 2.0)
    expected = set(first) | set(second)
    assert {tile for tile in range(TOTAL) if found.has(tile)} == expected
    assert found.done == len(expected)
    assert list(found.missing()) == sorted(set(range(TOTAL)) - expected)
    assert found.updated == 2.0
    gaps = sum(1 for tile in expected if tile + 1 not in expected)
    assert len(found.tiles_done) == gaps
    assert Head.from_bytes(found.to_bytes(), "here") == found


def test_segments_join_where_they_touch() -> None:
    assert add_tiles(((0, 3), (6, 9)), [5, 4]) == ((0, 9),)


@pytest.mark.parametrize("wrong", [((0, 1), (2, 3)), ((3, 2),), ((4, 5), (0, 1)), ((38, 40),), ((-1, 0),)])
def test_segments_that_are_not_compact_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        head(tiles_total=TOTAL).but(tiles_done=wrong)


def test_a_changed_head_is_checked_like_a_new_one() -> None:
    with pytest.raises(ValidationError):
        head().but(state="asleep")
    with pytest.raises(ValidationError):
        head().but(stat="failed")


@pytest.mark.parametrize("version", [0, 3, "2", 1.5, None])
def test_another_schema_version_is_named(version: object) -> None:
    data = head().model_dump_json().replace('"schema_version":2', f'"schema_version":{_json(version)}')
    with pytest.raises(CanvasError, match=f"here has schema version {version!r}, this raytile reads 1 and 2"):
        Head.from_bytes(data.encode(), "here")


def _json(value: object) -> str:
    return "null" if value is None else repr(value).replace("'", '"')


def test_a_head_of_version_1_reads() -> None:
    values = json.loads(head(step=3).to_bytes())
    for added in ("claims", "lease", "beat", "cancel_asked", "snapshot", "denoised", "workers"):
        del values[added]
    assert Head.from_bytes(json.dumps({**values, "schema_version": 1}).encode(), "here") == head(step=3)


def test_an_unknown_field_is_not_passed_over() -> None:
    data = head().model_dump_json().replace('"plan_hash"', '"wish":1,"plan_hash"')
    with pytest.raises(CanvasError, match="wish: Extra inputs"):
        Head.from_bytes(data.encode(), "here")


# the contract of stores


@pytest.fixture
def heads(objects: Bytes) -> HeadStore:
    return HeadStore(objects)


def test_no_head_yet(heads: HeadStore) -> None:
    with pytest.raises(CanvasError, match="no head"):
        heads.read()
    with pytest.raises(HeadConflict):
        heads.swap("absent", head())


def test_create_once(heads: HeadStore) -> None:
    tag = heads.create(head())
    assert heads.read() == (head(), tag)
    with pytest.raises(HeadConflict):
        heads.create(head(owner=owner("t1")))
    assert heads.read() == (head(), tag)


def test_swap_needs_the_standing_tag(heads: HeadStore) -> None:
    first = heads.create(head())
    second = heads.swap(first, head(step=1))
    assert second != first
    assert heads.read() == (head(step=1), second)
    with pytest.raises(HeadConflict):
        heads.swap(first, head(step=2))
    assert heads.read() == (head(step=1), second)
    heads.swap(second, head(step=3))
    assert heads.read()[0].step == 3


def test_of_racing_claims_one_wins(heads: HeadStore) -> None:
    tag = heads.create(head())
    together = threading.Barrier(8)

    def claim(number: int) -> str | None:
        together.wait()
        try:
            return heads.swap(tag, head(owner=owner(f"claim{number}")))
        except HeadConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        tags = list(pool.map(claim, range(8)))
    winners = [number for number, found in enumerate(tags) if found]
    assert len(winners) == 1
    assert heads.read() == (head(owner=owner(f"claim{winners[0]}")), tags[winners[0]])


def test_no_racing_change_is_lost(heads: HeadStore) -> None:
    heads.create(head())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count_up(heads, 10), range(4)))
    assert heads.read()[0].step == 40


def test_no_change_of_racing_processes_is_lost(tmp_path: Path) -> None:
    HeadStore(LocalBytes(tmp_path)).create(head())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["raytile.canvas.headstore", "canvas_parts"])
    target: Callable[..., None] = count_up
    writers = [context.Process(target=target, args=(HeadStore(LocalBytes(tmp_path)), 10)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert HeadStore(LocalBytes(tmp_path)).read()[0].step == 30
    assert {found.name for found in tmp_path.iterdir()} == {"head.json", "head.lock"}


def count_up(heads: HeadStore, times: int) -> None:
    """Add one to `step` so many times, trying again whenever someone else was faster."""
    for _ in range(times):
        while True:
            found, tag = heads.read()
            try:
                heads.swap(tag, found.but(step=found.step + 1))
                break
            except HeadConflict:
                continue
