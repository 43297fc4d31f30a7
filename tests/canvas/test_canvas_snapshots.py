"""A snapshot gives back its values bit for bit or says why not, and old ones go."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from canvas_parts import SMALL, cells, head, owner

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.claims import claim
from raytile.canvas.head import HeadConflict
from raytile.canvas.shared import check_proof, leave_proof, remove_proof
from raytile.errors import CanvasError
from raytile.geometry.box import Box


@pytest.fixture
def canvas(tmp_path: Path) -> Canvas:
    return store.create(tmp_path / "a.zarr", SMALL, head())


def state(tile: int, phase: int = 0) -> np.ndarray:
    return np.stack([cells(SMALL, tile, seed) for seed in (phase, phase + 1)])


def phases(canvas: Canvas) -> set[str]:
    return {found.name for found in Path(canvas.path, "snapshots").glob("*")}


def test_what_was_saved_is_read_back(canvas: Canvas) -> None:
    special = state(4)
    special[0, 0, 0, :2] = np.nan, -0.0
    assert canvas.write_snapshot(3, 4, special) > special.nbytes
    found = canvas.read_snapshot(3, 4)
    assert (found.dtype, found.shape, found.tobytes()) == (np.float32, special.shape, special.tobytes())
    found[0] = 1  # a copy of one's own
    assert canvas.read_snapshot(3, 4).tobytes() == special.tobytes()
    with pytest.raises(CanvasError, match=r"tile 5 of snapshot 3 of .*a\.zarr is not there"):
        canvas.read_snapshot(3, 5)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no header", "another's"])
def test_a_damaged_snapshot_is_refused(canvas: Canvas, damage: str) -> None:
    canvas.write_snapshot(3, 4, state(4))
    canvas.write_snapshot(3, 5, state(5))
    file = Path(canvas.path, "snapshots/3/4")
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[-5] ^= 1
    file.write_bytes(
        {"cut": data[:-4], "flipped": data, "no header": b"\n", "another's": file.with_name("5").read_bytes()}[damage]
    )
    with pytest.raises(CanvasError, match=r"tile 4 of snapshot 3 of .* is damaged"):
        canvas.read_snapshot(3, 4)


def test_old_snapshots_go_and_newer_ones_stay(canvas: Canvas) -> None:
    for phase in (2, 4, 6, 8):
        canvas.write_snapshot(phase, 0, state(0, phase))
    canvas.drop_snapshots(keep={6})
    assert phases(canvas) == {"6", "8"}  # the next one is being written while this one becomes whole
    assert canvas.read_snapshot(6, 0).tobytes() == state(0, 6).tobytes()
    canvas.drop_snapshots()
    assert not Path(canvas.path, "snapshots").exists()
    canvas.drop_snapshots()


def test_a_temporary_file_of_a_killed_writer_goes_too(canvas: Canvas) -> None:
    canvas.write_snapshot(2, 0, state(0))
    Path(canvas.path, "snapshots/2/.1.99-1.new").write_bytes(b"half")
    canvas.drop_snapshots()
    assert not Path(canvas.path, "snapshots").exists()


def test_dropping_and_writing_at_the_same_time(canvas: Canvas) -> None:
    over = threading.Event()

    def drop() -> None:
        while not over.is_set():
            canvas.drop_snapshots()
            over.wait(0.001)

    droppers = [threading.Thread(target=drop) for _ in range(2)]
    for dropper in droppers:
        dropper.start()
    try:
        for phase in range(40):
            canvas.write_snapshot(phase, 0, state(0))
    finally:
        over.set()
        for dropper in droppers:
            dropper.join()
    canvas.drop_snapshots()
    assert not Path(canvas.path, "snapshots").exists()


def test_who_lost_the_canvas_drops_nothing(canvas: Canvas) -> None:
    canvas.commit(lambda found: found.but(state="failed"))
    mine = claim(canvas.path, owner("t1"), clock=lambda: 0.0, sleep=lambda _: None)
    mine.write_snapshot(2, 0, state(0))
    with pytest.raises(HeadConflict):
        canvas.drop_snapshots()
    assert phases(canvas) == {"2"}


def test_a_snapshot_never_makes_a_canvas(tmp_path: Path) -> None:
    with pytest.raises(CanvasError, match="cannot write snapshots/1/0 of"):
        Canvas(tmp_path / "gone.zarr", SMALL).write_snapshot(1, 0, state(0))
    assert list(tmp_path.iterdir()) == []


def test_latents_are_read_by_box(canvas: Canvas) -> None:
    for tile in range(SMALL.tiles):
        assert not canvas.stored(tile, "latents")
        canvas.write_latents(tile, cells(SMALL, tile))
        assert canvas.stored(tile, "latents")
    found = canvas.read_latents(Box(2, 6, 0, 4))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :2], cells(SMALL, 0)[:, 2:])
    np.testing.assert_array_equal(found[:, 2:], cells(SMALL, 3)[:, :2])
    with pytest.raises(CanvasError, match="does not lie in latents of 12x10"):
        canvas.read_latents(Box(0, 11, 0, 1))


# is the directory shared?


def test_a_proof_is_seen_where_the_directory_is_shared(tmp_path: Path) -> None:
    place = tmp_path / "deep/er/a.zarr"
    with pytest.raises(CanvasError, match=r"a\.zarr on node-b is not the driver's directory: .* on s3://"):
        check_proof(place, "t0", "node-b")
    leave_proof(place, "t0")
    check_proof(place, "t0", "node-b")
    with pytest.raises(CanvasError):
        check_proof(place, "t1", "node-b")
    remove_proof(place, "t0")
    remove_proof(place, "t0")
    assert list(tmp_path.iterdir()) == []


def test_a_canvas_of_this_owner_is_proof_itself(canvas: Canvas, tmp_path: Path) -> None:
    leave_proof(canvas.path, "t0")
    assert [found.name for found in tmp_path.iterdir()] == ["a.zarr"]
    check_proof(canvas.path, "t0", "node-b")
    with pytest.raises(CanvasError):
        check_proof(canvas.path, "t1", "node-b")
    leave_proof(canvas.path, "t1")
    check_proof(canvas.path, "t1", "node-b")
    remove_proof(canvas.path, "t1")


def test_a_bucket_needs_no_proof() -> None:
    leave_proof("s3://bucket/a.zarr", "t0")
    check_proof("s3://bucket/a.zarr", "t0", "node-b")
    remove_proof("s3://bucket/a.zarr", "t0")
