"""Records: one truth per render, whoever writes it, on a disk, in memory and in a bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from raytile.canvas.bytes import Bytes, LocalBytes, MemoryBytes
from raytile.serve.errors import Conflict, NotFound
from raytile.serve.names import check_id, is_id, new_id
from raytile.serve.records import Record, Records
from tests.serve.conftest import MakeRecord


@pytest.fixture
def records(objects: Bytes) -> Records:
    return Records(objects, lambda: 5.0)


def test_a_record_is_kept_queued_and_listed_by_owner(records: Records, make_record: MakeRecord) -> None:
    one, two, other = make_record(), make_record(), make_record("k1")
    for record in (two, one, other):
        assert records.add(record) == (record, True)
    assert records.get(one.id) == one
    assert records.queued_ids() == [one.id, two.id, other.id]
    assert records.owned("local") == [two.id, one.id]
    assert records.owned("local", after=two.id) == [one.id]
    assert records.owned("local", limit=1) == [two.id]
    assert records.owned("k1") == [other.id]
    assert records.owned("k") == []
    assert records.owned(None) == [other.id, two.id, one.id]


def test_a_change_is_seen_and_none_leaves_all_as_it_is(records: Records, make_record: MakeRecord) -> None:
    record, _ = records.add(make_record())
    changed = records.change(record.id, lambda r: r.but(state="running", service="s", claims=r.claims + 1))
    assert changed is not None
    assert (changed.state, changed.claims, changed.updated) == ("running", 1, 5.0)
    assert records.change(record.id, lambda _: None) is None
    assert records.get(record.id) == changed


def test_what_has_ended_leaves_the_queue_and_stays_ended(records: Records, make_record: MakeRecord) -> None:
    record, _ = records.add(make_record())
    records.change(record.id, lambda r: r.but(state="finished", ended=3.0))
    assert records.queued_ids() == []
    assert records.owned("local") == [record.id]
    with pytest.raises(Conflict, match="is finished"):
        records.change(record.id, lambda r: r.but(state="running"))
    assert records.get(record.id).state == "finished"


def test_a_marker_left_behind_goes_with_the_next_look(records: Records, make_record: MakeRecord) -> None:
    record, _ = records.add(make_record())
    records.change(record.id, lambda r: r.but(state="failed"))
    records.objects.write(f"queue/{record.id}", b"")  # as after a crash between the two
    assert records.change(record.id, lambda r: None if r.terminal else r.but(state="running")) is None
    assert records.queued_ids() == []


def test_of_racing_changes_none_is_lost(records: Records, make_record: MakeRecord) -> None:
    record, _ = records.add(make_record())
    together = threading.Barrier(4)

    def claim(_: int) -> None:
        together.wait()
        records.change(record.id, lambda r: r.but(claims=r.claims + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(4)))
    assert records.get(record.id).claims == 4


def test_of_racing_ends_one_wins(records: Records, make_record: MakeRecord) -> None:
    record, _ = records.add(make_record())
    together = threading.Barrier(3)

    def end(state: str) -> Record | None:
        together.wait()
        return records.change(record.id, lambda r: None if r.terminal else r.but(state=state))

    with ThreadPoolExecutor(3) as pool:
        ends = [made for made in pool.map(end, ("finished", "failed", "cancelled")) if made]
    assert [made.state for made in ends] == [records.get(record.id).state]


def test_the_same_idempotency_key_is_the_same_render(records: Records, make_record: MakeRecord) -> None:
    first, made = records.add(make_record(), ("key", "body"))
    assert made
    assert records.add(make_record(), ("key", "body")) == (first, False)
    with pytest.raises(Conflict, match="choose a new one"):
        records.add(make_record(), ("key", "other"))
    assert records.add(make_record("k1"), ("key", "other"))[1], "another owner's key is another key"
    assert len(records.queued_ids()) == 2


def test_of_racing_repetitions_one_render_comes(records: Records, make_record: MakeRecord) -> None:
    wishes = [make_record() for _ in range(4)]
    together = threading.Barrier(4)

    def add(record: Record) -> tuple[Record, bool]:
        together.wait()
        return records.add(record, ("key", "body"))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(add, wishes))
    assert len({record.id for record, _ in found}) == 1
    assert sum(made for _, made in found) == 1
    assert len(records.queued_ids()) == len(records.owned("local")) == 1


@pytest.mark.parametrize("writes", range(4))
def test_a_repetition_makes_what_a_crash_left_out(objects: Bytes, make_record: MakeRecord, writes: int) -> None:
    """Whatever is written before the power goes: the first write that is left out is any of the four."""
    left = [writes]

    def failing(act: Callable[..., Any]) -> Callable[..., Any]:
        def write(key: str, data: bytes) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return act(key, data)

        return write

    wish, whole = make_record(), (objects.create, objects.write)
    objects.create, objects.write = map(failing, whole)  # type: ignore[method-assign]
    records = Records(objects, lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        records.add(wish, ("key", "body"))
    objects.create, objects.write = whole  # type: ignore[method-assign]
    again, _ = records.add(make_record(), ("key", "body"))
    assert records.repeated(wish.owner, "key", "body") == again
    assert records.queued_ids() == records.owned(wish.owner) == [again.id]


def test_what_was_never_kept_is_forgotten_after_a_while(objects: Bytes, make_record: MakeRecord) -> None:
    records = Records(objects, lambda: 0.0)
    kept, lost = records.add(make_record())[0], make_record()
    objects.write(f"queue/{lost.id}", b"")
    records.forget_marks(lost.created)
    assert records.queued_ids() == [kept.id, lost.id], "it may still be written"
    records.forget_marks(lost.created + 1)
    assert records.queued_ids() == [kept.id]


def test_a_removal_that_was_cut_off_can_be_gone_on_with(objects: Bytes, make_record: MakeRecord) -> None:
    """Whenever the power goes, what is left is found by the list of its owner."""
    whole = objects.delete
    for deletes in range(4):
        records, left = Records(objects, lambda: 0.0), [deletes]
        record, _ = records.add(make_record(), (f"key {deletes}", "body"))
        records.change(record.id, lambda now: now.but(state="finished"))

        def failing(keys: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            whole(keys)

        objects.delete = failing  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            records.remove(record.id)
        objects.delete = whole  # type: ignore[method-assign]
        assert records.marked() == [(record.owner, record.id)]
        with suppress(NotFound):
            records.remove(record.id)
        records.unlist(record.owner, record.id)
        assert objects.sizes() == {}


def test_what_is_removed_leaves_nothing(objects: Bytes, make_record: MakeRecord) -> None:
    records = Records(objects, lambda: 0.0)
    record, _ = records.add(make_record())
    objects.create(f"renders/{record.id}/canvas.zarr/head.json", b"{}")
    objects.write(f"renders/{record.id}/events/000000000001.json", b"[]")
    records.change(record.id, lambda r: r.but(state="finished"))
    records.remove(record.id)
    assert objects.sizes() == {}
    if isinstance(objects, LocalBytes):
        from pathlib import Path

        assert list(Path(objects.where).rglob("*")) == []
    with pytest.raises(NotFound):
        records.get(record.id)


@pytest.mark.parametrize("id", ["", "r", "../x", "r" + "0" * 23, "R" + "0" * 24, "r" + "0" * 24 + "\n", "k" + "0" * 24])
def test_only_an_id_is_looked_for(id: str) -> None:
    class Untouched(MemoryBytes):
        def read(self, key: str) -> tuple[bytes, str] | None:
            raise AssertionError(key)

    records = Records(Untouched(), lambda: 0.0)
    for act in (records.get, records.canvas, records.remove, check_id):
        with pytest.raises(NotFound):
            act(id)


def test_ids_sort_by_time() -> None:
    import random

    ids = [new_id("r", now, random.Random(1)) for now in (1.0, 999.999, 1e9, 1.7e9, 1.7e9 + 0.001)]
    assert ids == sorted(ids)
    assert all(map(is_id, ids))
