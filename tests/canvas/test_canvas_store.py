"""A canvas gives back what was put into it; creating one is checked first and atomic."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from canvas_parts import SMALL, cells, head, owner, pixels

from raytile.canvas import local, store
from raytile.canvas.canvas import Canvas
from raytile.canvas.digest import combine, digest
from raytile.canvas.head import HeadConflict
from raytile.canvas.layout import CanvasLayout
from raytile.errors import CanvasError
from raytile.geometry.box import Box


def paint(canvas: Canvas, seed: int = 0) -> None:
    for tile in range(canvas.layout.tiles):
        canvas.write_image(tile, pixels(canvas.layout, tile, seed))
        canvas.write_latents(tile, cells(canvas.layout, tile, seed))


def everything(folder: Path) -> set[str]:
    return {str(found.relative_to(folder)) for found in folder.rglob("*")}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    paint(canvas)
    opened = store.open(tmp_path / "a.zarr")
    assert opened.layout == SMALL
    assert opened.head() == head()
    whole = opened.read_image(Box(0, SMALL.height, 0, SMALL.width))
    for tile in range(SMALL.tiles):
        box, cell = SMALL.pixels(tile), SMALL.cells(tile)
        np.testing.assert_array_equal(whole[:, box.y0 : box.y1, box.x0 : box.x1], pixels(SMALL, tile))
        found = np.asarray(opened.latents[:, cell.y0 : cell.y1, cell.x0 : cell.x1])
        np.testing.assert_array_equal(found, cells(SMALL, tile))


def test_it_is_a_plain_zarr_group_for_others(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    paint(canvas)
    group: Any = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    image, latents = group["image"], group["latents"]
    assert (image.shape, image.chunks, image.dtype) == ((3, 70, 90), (3, 32, 32), np.uint8)
    assert (latents.shape, latents.chunks, latents.dtype) == ((4, 10, 12), (4, 4, 4), np.float32)
    assert image.metadata.dimension_names == latents.metadata.dimension_names == ("c", "y", "x")


def test_digests_are_of_raw_values_in_tile_order(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    written = [
        (
            canvas.write_latents(tile, cells(SMALL, tile)),
            canvas.write_image(tile, pixels(SMALL, tile)),
        )
        for tile in range(SMALL.tiles)
    ]
    expected = [hashlib.sha256(pixels(SMALL, tile).tobytes()) for tile in range(SMALL.tiles)]
    assert [pair[1] for pair in written] == [each.hexdigest() for each in expected]
    together = hashlib.sha256(b"".join(each.digest() for each in expected)).hexdigest()
    assert canvas.digests() == (combine(pair[0] for pair in written), together)
    flipped = pixels(SMALL, 3)
    flipped[1, 2, 3] ^= 1
    canvas.write_image(3, flipped)
    assert canvas.digests()[1] != together


def test_digest_does_not_depend_on_memory_order_or_byte_order() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = hashlib.sha256(values.tobytes()).hexdigest()
    assert digest(values) == digest(np.asfortranarray(values)) == digest(values.astype(">f4")) == expected


def test_a_black_tile_is_on_disk(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    assert not canvas.stored(0)
    with pytest.raises(CanvasError, match="no image of tile 0"):
        canvas.pixels_digest(0)
    canvas.write_image(0, np.zeros((3, 32, 32), np.uint8))
    canvas.write_latents(0, np.zeros((4, 4, 4), np.float32))
    assert canvas.stored(0)
    assert canvas.pixels_digest(0) == hashlib.sha256(bytes(3 * 32 * 32)).hexdigest()
    assert canvas.latents_digest(0) == hashlib.sha256(bytes(4 * 4 * 4 * 4)).hexdigest()


def test_a_tile_outside_the_picture_keeps_latents_only(tmp_path: Path) -> None:
    layout = CanvasLayout(width=8, height=8, channels=1, rows=8, columns=8, tile_cells=4, factor=8)
    canvas = store.create(tmp_path / "a.zarr", layout, head(layout))
    paint(canvas)
    assert canvas.stored(3)
    assert canvas.pixels_digest(3) == hashlib.sha256(b"").hexdigest()
    assert store.open(canvas.path).digests() == canvas.digests()


def test_a_workers_canvas_travels_as_path_and_layout(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    canvas.write_image(0, pixels(SMALL, 0))
    worker = pickle.loads(pickle.dumps(canvas))
    worker.write_image(1, pixels(SMALL, 1))
    assert canvas.pixels_digest(1) == digest(pixels(SMALL, 1))
    with pytest.raises(CanvasError, match="only the driver"):
        worker.commit(lambda found: found)


def test_tiles_must_have_their_shape_and_dtype(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    with pytest.raises(CanvasError, match=r"image of tile 2 must be uint8 \(3, 32, 26\)"):
        canvas.write_image(2, np.zeros((3, 32, 32), np.uint8))
    with pytest.raises(CanvasError, match="must be float32"):
        canvas.write_latents(0, np.zeros((4, 4, 4), np.float64))
    with pytest.raises(CanvasError, match="no tile 9"):
        canvas.write_latents(9, np.zeros((4, 4, 4), np.float32))
    with pytest.raises(CanvasError, match="does not lie in image"):
        canvas.read_image(Box(0, 71, 0, 1))


def test_users_cannot_write_through_the_arrays(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    with pytest.raises(ValueError, match="read-only"):
        canvas.image[:] = 0


def test_commit_changes_the_head_until_someone_else_does(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    canvas.commit(lambda found: found.with_tiles([0, 1], updated=1001.0))
    claimant = store.open(canvas.path)
    claimant.commit(lambda found: found.but(owner=owner("t1"), updated=1002.0))
    with pytest.raises(HeadConflict):
        canvas.commit(lambda found: found.with_tiles([2], updated=1003.0))
    assert canvas.head().owner.token == "t1"
    assert canvas.head().tiles_done == ((0, 1),)


def test_making_and_opening_a_canvas_imports_no_torch(tmp_path: Path) -> None:
    store.create(tmp_path / "a.zarr", SMALL, head())
    code = (
        "import sys; from raytile.canvas import store, export, info; assert 'zarr' not in sys.modules;"
        f"store.open({str(tmp_path / 'a.zarr')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# what cannot be created


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("picture", "ends in .zarr: try picture.zarr"),
        (".zarr", "ends in .zarr"),
        ("file/a.zarr", "file is not a directory"),
        ("taken/a.zarr", "exists: .* --overwrite"),
    ],
)
def test_bad_places_are_refused_and_nothing_is_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken/a.zarr").mkdir(parents=True)
    before = everything(tmp_path)
    with pytest.raises(CanvasError, match=message):
        store.create(tmp_path / name, SMALL, head())
    assert everything(tmp_path) == before


def test_a_name_that_would_be_too_long_while_it_is_made(tmp_path: Path) -> None:
    token = "t" * 64
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - local.TEMPORARY
    with pytest.raises(CanvasError, match=f"has {most + 1} bytes, at most {most} fit here: choose a shorter one"):
        store.check(tmp_path / "deep" / f"{'n' * (most - 4)}.zarr", SMALL)
    assert everything(tmp_path) == set()
    for _ in range(2):  # the second time it is set aside under a name as long
        store.create(tmp_path / f"{'n' * (most - 5)}.zarr", SMALL, head(owner=owner(token)), overwrite=True)


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=SMALL.worst_bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CanvasError, match=r"needs up to .* KB and .* has .* free"):
        store.create(tmp_path / "deep/er/a.zarr", SMALL, head())
    assert everything(tmp_path) == set()


def test_a_failure_while_creating_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "sync_tree", full)
    with pytest.raises(CanvasError, match=r"cannot create .*a\.zarr: No space left on device"):
        store.create(tmp_path / "deep/a.zarr", SMALL, head())
    assert everything(tmp_path) == set()


def test_a_place_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CanvasError, match=f"{tmp_path} is not writable"):
        store.create(tmp_path / "deep/a.zarr", SMALL, head())
    assert everything(tmp_path) == set()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    store.create(tmp_path / "deep/er/a.zarr", SMALL, head())
    assert everything(tmp_path / "deep/er") >= {"a.zarr/zarr.json", "a.zarr/head.json"}
    assert [found.name for found in (tmp_path / "deep/er").iterdir()] == ["a.zarr"]


def test_the_head_must_fit_the_layout(tmp_path: Path) -> None:
    with pytest.raises(CanvasError, match="disagree"):
        store.create(tmp_path / "a.zarr", SMALL, head(tiles_total=8))
    assert everything(tmp_path) == set()


# overwriting


def test_overwrite_replaces_a_canvas_that_ended(tmp_path: Path) -> None:
    old = store.create(tmp_path / "a.zarr", SMALL, head(state="finished"))
    paint(old)
    new = store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)
    assert new.head().owner.token == "t1"
    assert not any(new.stored(tile) for tile in range(SMALL.tiles))
    assert [found.name for found in tmp_path.iterdir()] == ["a.zarr"]
    with pytest.raises(HeadConflict):
        old.commit(lambda found: found)


def test_overwrite_counts_what_it_frees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(store.create(tmp_path / "a.zarr", SMALL, head(state="finished")))
    usage = shutil.disk_usage(tmp_path)._replace(free=SMALL.worst_bytes - 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)


def test_overwrite_leaves_what_is_not_a_canvas(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/letter.txt").write_text("mine")
    zarr.create_group(str(tmp_path / "b.zarr"))
    store.create(tmp_path / "c.zarr", SMALL, head(state="finished"))
    (tmp_path / "d.zarr").symlink_to(tmp_path / "c.zarr")
    before = everything(tmp_path)
    for name in "abd":
        with pytest.raises(CanvasError, match="not a raytile canvas"):
            store.create(tmp_path / f"{name}.zarr", SMALL, head(), overwrite=True)
    assert everything(tmp_path) == before


def test_overwrite_spares_a_render_that_lives_here(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t0", pid=other.pid)))
        with pytest.raises(CanvasError, match=f"being rendered by process {other.pid}: .*delete the canvas"):
            store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)
    finally:
        other.communicate(b"\n")
    store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)


def test_overwrite_takes_an_owner_of_our_own_pid_for_dead(tmp_path: Path) -> None:
    """A container has the same host name and pid 1 each time it is started."""
    store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("crashed")))
    store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)
    assert store.open(tmp_path / "a.zarr").head().owner.token == "t1"


@pytest.mark.parametrize("struck", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moment", ["before its name", "after its name", "while the old one goes"])
def test_an_overwrite_that_is_stopped_leaves_one_canvas_and_nothing_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, struck: type[BaseException], moment: str
) -> None:
    place = store.create(tmp_path / "a.zarr", SMALL, head(state="finished")).path
    rename, rmtree = Path.rename, shutil.rmtree
    strikes = [struck("stopped")]

    def stopped_rename(self: Path, target: Path) -> Path:
        new = self.suffix == ".new" and bool(strikes)
        if new and moment == "before its name":
            raise strikes.pop()
        done = rename(self, target)
        if new and moment == "after its name":
            raise strikes.pop()
        return done

    def stopped_rmtree(path: Path, ignore_errors: bool = False) -> None:
        if strikes:
            raise strikes.pop()
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(Path, "rename", stopped_rename)
    if moment == "while the old one goes":
        monkeypatch.setattr(shutil, "rmtree", stopped_rmtree)
    with pytest.raises((KeyboardInterrupt, CanvasError)):
        store.create(place, SMALL, head(owner=owner("t1")), overwrite=True)
    assert store.open(place).head().owner.token == ("t0" if moment == "before its name" else "t1")
    assert [found.name for found in tmp_path.iterdir()] == ["a.zarr"]


def test_overwrite_puts_back_a_canvas_that_came_alive_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.create(tmp_path / "a.zarr", SMALL, head(state="failed"))
    rename = Path.rename

    def claim_first(self: Path, target: Path) -> Path:
        if str(self) == old.path:
            old.commit(lambda found: found.but(state="running", owner=owner("resumed")))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", claim_first)
    with pytest.raises(CanvasError, match="changed by another process"):
        store.create(tmp_path / "a.zarr", SMALL, head(owner=owner("t1")), overwrite=True)
    assert store.open(tmp_path / "a.zarr").head().owner.token == "resumed"
    assert [found.name for found in tmp_path.iterdir()] == ["a.zarr"]


# what does not open


def test_what_is_not_a_canvas_is_named(tmp_path: Path) -> None:
    with pytest.raises(CanvasError, match="there is no canvas at"):
        store.open(tmp_path / "a.zarr")
    with pytest.raises(CanvasError, match=r"has no zarr\.json"):
        store.open(tmp_path)
    zarr.create_group(str(tmp_path / "b.zarr"))
    with pytest.raises(CanvasError, match=r"has no head\.json"):
        store.open(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: shutil.rmtree(path / "image"), "array 'image' does not open"),
        (lambda path: (path / "latents/zarr.json").write_text("{"), "array 'latents' does not open"),
        (lambda path: (path / "head.json").write_text("{"), "is not JSON"),
        (lambda path: (path / "head.json").write_text('{"schema_version": 99}'), "schema version 99"),
        (lambda path: (path / "head.json").write_text('{"schema_version": 1}'), "request: Field required"),
    ],
)
def test_damage_is_named(tmp_path: Path, break_it: Any, message: str) -> None:
    path = store.create(tmp_path / "a.zarr", SMALL, head()).path
    break_it(Path(path))
    with pytest.raises(CanvasError, match=message):
        store.open(path)


def test_a_head_of_another_picture_is_noticed(tmp_path: Path) -> None:
    one = store.create(tmp_path / "a.zarr", SMALL, head()).path
    other = CanvasLayout(width=64, height=64, channels=4, rows=8, columns=8, tile_cells=4, factor=8)
    two = store.create(tmp_path / "b.zarr", other, head(other)).path
    shutil.copy(f"{two}/head.json", f"{one}/head.json")
    with pytest.raises(CanvasError, match="its head says 64x64 pixels, its image has 90x70"):
        store.open(one)


def test_a_torn_chunk_is_an_error_and_can_be_written_again(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    paint(canvas)
    for tile in (0, SMALL.tiles - 1):  # a whole chunk and one at the edge
        chunk = Path(canvas.path) / "image/c/0" / f"{tile // 3}" / f"{tile % 3}"
        chunk.write_bytes(chunk.read_bytes()[:50])
        with pytest.raises(CanvasError, match="cannot read"):
            canvas.pixels_digest(tile)
        canvas.write_image(tile, pixels(SMALL, tile))
        assert canvas.pixels_digest(tile) == digest(pixels(SMALL, tile))


def test_a_write_that_fails_names_path_and_cause(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    (tmp_path / "a.zarr/image/c").write_text("in the way")
    with pytest.raises(CanvasError, match=r"cannot write image of tile 0 to .*a\.zarr: "):
        canvas.write_image(0, pixels(SMALL, 0))
