"""What is taken in stands in the canvas from the beginning, on a disk and in a bucket; the power may go at any time."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_parts import SMALL, Cut, Failing, head, owner, painted, pixels
from PIL import Image

from raytile.canvas import bucket as buckets
from raytile.canvas import fill, store
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import HeadConflict
from raytile.canvas.headstore import HEAD
from raytile.canvas.inputs import Inputs, Parent, Taken, check_parent, holds, identify, masks_of
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.place import bytes_at
from raytile.errors import CanvasError, InvalidRequest
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest

PARENT = CanvasLayout(width=60, height=60, channels=4, rows=8, columns=8, tile_cells=4, factor=8)
PLACE = (16, 8)  # (x, y): SMALL's tile 4, the middle one, lies within it; its neighbours reach beyond
WHOLE = Box(0, 70, 0, 90)
CELLS = Box(0, 10, 0, 12)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """source.png of 45 x 35, mask.png of 45 x 35, land.png as large as the picture."""
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (35, 45, 3), np.uint8)).save(tmp_path / "source.png")
    Image.fromarray(rng.integers(0, 256, (35, 45), np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(rng.integers(0, 256, (70, 90), np.uint8)).save(tmp_path / "land.png")
    return tmp_path


@pytest.fixture
def parent(tmp_path: Path) -> Canvas:
    return painted(store.create(tmp_path / "parent.zarr", PARENT, head(PARENT)), seed=9)


def values(file: Path) -> np.ndarray[Any, Any]:
    with Image.open(file) as opened:
        found = np.asarray(opened)
    return found.transpose(2, 0, 1) if found.ndim == 3 else found[None]


def everything(files: Path) -> Inputs:
    land, mask, source = (str(files / f"{name}.png") for name in ("land", "mask", "source"))
    return Inputs(
        source=Taken(source, 45, 35, identify(source).sha256),
        masks=(Taken(mask, 90, 70), Taken(land, 90, 70)),
        control=Taken(land, 90, 70, identify(land).sha256),
    )


def repaint(parent: Canvas) -> Inputs:
    return Inputs(parent=Parent(parent.path, PLACE, frozenset({0, 1, 2, 3, 5, 6, 7, 8}), identify(parent.path).sha256))


def holds_everything(canvas: Canvas, files: Path) -> None:
    np.testing.assert_array_equal(canvas.read_source(Box(0, 35, 0, 45)), values(files / "source.png"))
    np.testing.assert_array_equal(canvas.read_mask(1, WHOLE), values(files / "land.png"))
    np.testing.assert_array_equal(canvas.area("control", WHOLE, 1), np.float32(values(files / "land.png") / 255))
    scaled = canvas.read_mask(0, WHOLE)
    assert scaled.shape == (1, 70, 90)
    assert abs(float(scaled.mean()) - values(files / "mask.png").mean()) < 3


def holds_parent(canvas: Canvas, parent: Canvas) -> None:
    box = canvas.layout.pixels(4)
    np.testing.assert_array_equal(canvas.read_image(box), parent.read_image(box.shift(-8, -16)))
    box = canvas.layout.cells(4)
    np.testing.assert_array_equal(canvas.read_latents(box), parent.read_latents(box.shift(-1, -2)))
    expected = np.zeros((3, 70, 90), np.uint8)
    expected[:, 8:68, 16:76] = parent.read_image(Box(0, 60, 0, 60))
    expected[:, 32:64, 32:64] = 0  # the tile that is not touched stands in the image alone
    np.testing.assert_array_equal(canvas.read_source(WHOLE), expected)
    expected = np.zeros((4, 10, 12), np.float32)
    expected[:, 1:9, 2:10] = parent.read_latents(Box(0, 8, 0, 8))
    np.testing.assert_array_equal(canvas.read_source_latents(CELLS), expected)
    for tile in range(canvas.layout.tiles):
        assert canvas.stored(tile) == canvas.stored(tile, "latents") == (tile == 4)


def test_pictures_are_taken_in(new_place: Callable[[], str], files: Path) -> None:
    place, seen = new_place().replace("a.zarr", "b.zarr"), list[tuple[int, int]]()
    inputs = everything(files)
    canvas = store.create(place, SMALL, head(), inputs=inputs, progress=lambda *now: seen.append(now))
    holds_everything(canvas, files)
    assert seen == sorted(seen)
    assert seen[-1] == (4 + 3 * 9, 4 + 3 * 9)
    for name in ("source.png", "mask.png", "land.png"):
        (files / name).unlink()
    worker = pickle.loads(pickle.dumps(store.open(place)))  # needs nothing but the canvas
    assert worker.layout == SMALL
    assert worker.area("source_image", Box(0, 9, 0, 12), 4).shape == (3, 9, 12)
    assert worker.read_source(Box(30, 35, 0, 45)).shape == (3, 5, 45)
    with pytest.raises(CanvasError, match="does not lie in source_image of 45x35"):
        worker.read_source(Box(0, 36, 0, 1))
    with pytest.raises(CanvasError, match="mask_2"):
        worker.read_mask(2, WHOLE)
    assert store.open(place).head() == head()


def test_a_parent_is_taken_in_and_what_nobody_touches_is_copied_to_the_bit(
    new_place: Callable[[], str], parent: Canvas
) -> None:
    place, seen = new_place().replace("a.zarr", "b.zarr"), list[tuple[int, int]]()
    canvas = store.create(place, SMALL, head(), inputs=repaint(parent), progress=lambda *now: seen.append(now))
    assert seen[-1] == (9, 9)
    holds_parent(store.open(place), parent)
    canvas.write_image(0, pixels(SMALL, 0))  # and then it is painted like any other
    canvas.commit(lambda found: found.with_tiles([0, 4], 2.0))
    assert store.open(place).pixels_digest(0)


def test_a_repaint_of_the_same_size_keeps_its_tiles_chunk_by_chunk(tmp_path: Path) -> None:
    old = painted(store.create(tmp_path / "old.zarr", SMALL, head()))
    inputs = Inputs(parent=Parent(old.path, (0, 0), frozenset({4})))
    canvas = store.create(tmp_path / "new.zarr", SMALL, head(), inputs=inputs)
    for tile in set(range(9)) - {4}:
        assert canvas.pixels_digest(tile) == old.pixels_digest(tile)
        assert canvas.latents_digest(tile) == old.latents_digest(tile)
    assert not canvas.stored(4)
    np.testing.assert_array_equal(canvas.read_source_latents(CELLS), old.read_latents(CELLS))
    assert [*(Path(canvas.path) / "source_image/c/0").rglob("*")][-1].name == "1"
    assert len([found for found in (Path(canvas.path) / "source_image/c").rglob("*") if found.is_file()]) == 1


def test_levels_are_kept_beside(new_place: Callable[[], str]) -> None:
    layout = replace(SMALL, levels=((3, 3), (5, 6)))
    place = new_place().replace("a.zarr", "b.zarr")
    worker = pickle.loads(pickle.dumps(store.create(place, layout, head(layout))))
    rng = np.random.default_rng(1)
    expected = rng.standard_normal((4, 5, 6), np.float32)
    assert layout.level_tiles(1) == 4
    for tile in range(4):
        box = layout.level_cells(1, tile)
        worker.write_level(1, tile, expected[:, box.y0 : box.y1, box.x0 : box.x1])
    opened = store.open(place)
    assert opened.layout == layout
    np.testing.assert_array_equal(opened.read_level(1, Box(0, 5, 0, 6)), expected)
    np.testing.assert_array_equal(opened.read_level(1, Box(2, 5, 3, 6)), expected[:, 2:5, 3:6])
    assert not opened.read_level(0, Box(0, 3, 0, 3)).any()
    for act, message in (
        (lambda: opened.read_level(2, Box(0, 1, 0, 1)), "no level 2: this canvas has 2 below the picture"),
        (lambda: opened.read_level(0, Box(0, 4, 0, 1)), "does not lie in level_0 of 3x3"),
        (lambda: opened.write_level(1, 4, expected), "no tile 4: level 1 has 4"),
        (lambda: opened.write_level(1, 0, expected), r"level_1 of tile 0 must be float32 \(4, 4, 4\)"),
    ):
        with pytest.raises(CanvasError, match=message):
            act()


def test_a_tile_of_a_level_is_flushed_before_its_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = replace(SMALL, levels=((5, 6),))
    canvas = store.create(tmp_path / "a.zarr", layout, head(layout))
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{file}"), canvas.path))
    )
    canvas.write_level(0, 1, np.zeros((4, 4, 2), np.float32))
    assert flushed == ["level_0/c/0/0/1", "level_0/c/0/0", "level_0/c/0", "level_0/c", "level_0"]


# what is refused, before anything is written


def test_what_cannot_be_taken_in_is_refused_and_leaves_nothing(
    new_place: Callable[[], str], files: Path, parent: Canvas
) -> None:
    place = new_place().replace("a.zarr", "b.zarr")
    source, none = str(files / "source.png"), "0" * 64
    torn = files / "torn.png"
    torn.write_bytes((files / "land.png").read_bytes()[:-2000])
    one = frozenset(range(9))
    for inputs, message in (
        (Inputs(source=Taken(source, 45, 35, none)), "source.png has changed since it was looked at: start again"),
        (Inputs(source=Taken(str(files / "none.png"), 45, 35)), "cannot read .*none.png: No such file"),
        (Inputs(source=Taken(str(torn), 45, 35)), "cannot read .*torn.png: .*is it whole"),
        (Inputs(masks=(Taken(source, 45, 35),)), "mask_0 of .* must be scaled to the 90x70 pixels"),
        (Inputs(parent=Parent(parent.path, (4, 8), one)), r"place: must be multiples of 8 pixels \(got 4,8\)"),
        (Inputs(parent=Parent(parent.path, (40, 8), one)), "60x60 pixels at 40,8 reach beyond 90x70: choose a larger"),
        (Inputs(parent=Parent(parent.path, (-8, 8), one)), "reach beyond"),
        (Inputs(parent=Parent(parent.path, PLACE, frozenset())), "tile 0 reaches beyond .* and has to be painted"),
        (Inputs(parent=Parent(parent.path, PLACE, one, none)), "parent.zarr has changed since it was looked at"),
    ):
        with pytest.raises((InvalidRequest, CanvasError), match=message) as told:
            store.create(place, SMALL, head(), inputs=inputs)
        assert "\n" not in str(told.value)
        assert not store.exists(place)
        assert not bytes_at(place).sizes()
    assert not [found for found in Path(files).iterdir() if found.name.startswith(".")]
    with pytest.raises(InvalidRequest, match="not both: leave one"):
        Inputs(source=Taken(source, 45, 35), parent=Parent(parent.path, PLACE, one))


def test_a_canvas_is_not_its_own_source(parent: Canvas) -> None:
    inputs = Inputs(parent=Parent(parent.path, (0, 0), frozenset()))
    with pytest.raises(InvalidRequest, match="cannot be both source and result: choose another name for the result"):
        store.create(parent.path, PARENT, head(PARENT), overwrite=True, inputs=inputs)
    link = Path(parent.path).with_name("link.zarr")
    link.symlink_to(parent.path)
    inputs = Inputs(parent=Parent(str(link), (0, 0), frozenset()))
    with pytest.raises(InvalidRequest, match="cannot be both source and result"):
        store.create(parent.path, PARENT, head(PARENT), overwrite=True, inputs=inputs)
    assert store.open(parent.path).head().state == "finished"


def test_an_input_that_changes_while_it_is_copied_makes_no_canvas(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = fill._Copier.count

    def meddle(self: Any, chunks: int) -> None:
        Image.new("RGB", (45, 35)).save(files / "source.png")
        count(self, chunks)

    monkeypatch.setattr(fill._Copier, "count", meddle)
    inputs = everything(files)
    with pytest.raises(InvalidRequest, match=r"source.png has changed since it was looked at"):
        store.create(tmp_path / "a.zarr", SMALL, head(), inputs=inputs)
    assert not (tmp_path / "a.zarr").exists()


def test_the_disk_must_hold_the_inputs_too(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=SMALL.worst_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    store.check(tmp_path / "a.zarr", SMALL)
    with pytest.raises(CanvasError, match="the canvas needs up to"):
        store.check(tmp_path / "a.zarr", SMALL, inputs=everything(files))


def test_which_tiles_a_parent_holds() -> None:
    assert [tile for tile in range(9) if holds(SMALL, PARENT, PLACE, tile)] == [4]
    assert all(holds(SMALL, SMALL, (0, 0), tile) for tile in range(9))
    wide = replace(SMALL, width=122, columns=16)  # the last column of the old tiles was cut at 90 pixels
    assert [tile for tile in range(wide.tiles) if holds(wide, SMALL, (0, 0), tile)] == [0, 1, 4, 5, 8, 9]
    with pytest.raises(InvalidRequest, match="another kind of model"):
        check_parent(SMALL, replace(PARENT, channels=3), Parent("p.zarr", PLACE, frozenset()))


def test_masks_are_numbered_regions_first() -> None:
    request = RenderRequest.parse(
        prompt="",
        width=8,
        height=8,
        regions=[{"prompt": "a", "mask": {"path": "a"}}, {"prompt": "b", "box": [0, 0, 1, 1]}],
        repaint=[{"mask": {"path": "c"}}],
    )
    assert [mask.path for mask in masks_of(request)] == ["a", "c"]


# the power goes


def made(objects: Any, token: str, inputs: Inputs | None) -> bool:
    """Make a canvas with these objects; whether the power stayed on."""
    try:
        buckets.make(objects, SMALL, head(owner=owner(token)), 3000.0, inputs)
    except Cut:
        return False
    return True


@pytest.mark.parametrize(
    ("new_place", "old", "new", "states"),
    [
        ("local", None, "files", ["-", "t1"]),
        ("local", None, "parent", ["-", "t1"]),
        ("local", "plain", "files", ["t0", "emptied", "-", "t1"]),
        ("local", "files", "plain", ["t0", "taken", "-", "t1"]),
        ("local", "parent", "parent", ["t0", "taken", "-", "t1"]),
        ("s3", "parent", "files", ["t0", "taken", "-", "t1"]),
    ],
    indirect=["new_place"],
)
def test_the_power_goes_at_any_request(
    new_place: Callable[[], str], files: Path, parent: Canvas, old: str | None, new: str, states: list[str]
) -> None:
    kinds = {"plain": None, "files": everything(files), "parent": repaint(parent)}
    seen: list[str] = []
    whole, cut = False, 0

    def stands() -> str:
        """Open what is there, and hold its head against it."""
        if not store.exists(place):
            with pytest.raises(CanvasError, match=r"there is no canvas at|is not a raytile canvas"):
                store.open(place)
            return "-"
        canvas = store.open(place)
        found = canvas.head()
        token = found.owner.token
        kind = old if token == "t0" or found.claims else new
        if kind == "files":
            holds_everything(canvas, files)
        elif kind == "parent":
            holds_parent(canvas, parent)
        for tile in range(SMALL.tiles):
            assert not found.has(tile) or canvas.stored(tile)
        return token if not found.claims else "taken" if kind != "plain" else "emptied"

    while not whole:
        place = new_place()
        objects = bytes_at(place)
        if old:
            assert made(objects, "t0", kinds[old])
            store.open(place).commit(lambda found: found.but(state="failed"))
        whole = made(Failing(objects, cut), "t1", kinds[new])
        cut += 1 if old is None or cut < 14 else 5  # what comes then is as in a creation
        seen.append(stands())
        if seen[-1] != "t1":
            assert made(objects, "t2", None)  # whatever it is, the next try makes the canvas
            assert {*objects.sizes()} == {*buckets._metadata(SMALL), HEAD}
    assert sorted(set(seen), key=seen.index) == states


def test_a_crash_at_any_flush_or_rename_leaves_a_whole_canvas(files: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["raytile.canvas.store", "zarr", "zarr.codecs", "numpy", "canvas_parts", "pyvips"])
    seen = []
    step, code = 0, 99
    while code == 99:
        place = Path(store.create(files / str(step) / "a.zarr", SMALL, head(state="finished")).path)
        writer = context.Process(target=overwrite_until, args=(place, everything(files), step))
        writer.start()
        writer.join()
        code = writer.exitcode or 0
        seen.append(store.open(place).head().owner.token if place.exists() else "none")
        if seen[-1] == "t1":
            holds_everything(store.open(place), files)
        step += 7  # some of the many flushes, and all that follow the naming
        if "t1" not in seen and code == 0:
            raise AssertionError(f"ended without a canvas: {seen}")
    assert (code, seen[0], seen[-1]) == (0, "t0", "t1")


def overwrite_until(place: Path, inputs: Inputs, step: int) -> None:
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            if left[0] == 0:
                os._exit(99)
            left[0] -= 1
            return call(*args)

        return counting

    os.fsync = counted(os.fsync)
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    store.create(place, SMALL, head(owner=owner("t1")), overwrite=True, inputs=inputs)


def test_a_maker_that_is_overtaken_gives_up(new_place: Callable[[], str], files: Path) -> None:
    place = new_place()
    objects = bytes_at(place)

    def overtake(done: int, _: int) -> None:
        if done == 4:
            assert made(objects, "t2", everything(files))

    with pytest.raises(HeadConflict, match="another process makes a canvas"):
        buckets.make(objects, SMALL, head(owner=owner("t1")), 3000.0, everything(files), overtake)
    canvas = store.open(place)
    assert canvas.head().owner.token == "t2"
    holds_everything(canvas, files)


def test_without_a_mark_of_ours_nothing_is_taken_away(bucket: str) -> None:
    canvas = painted(store.create(bucket, SMALL, head()))
    bytes_at(bucket).delete([HEAD])
    with pytest.raises(CanvasError, match="is not a raytile canvas, and holds image/c/0/0/0"):
        store.create(bucket, SMALL, head())
    assert canvas.pixels_digest(0)
