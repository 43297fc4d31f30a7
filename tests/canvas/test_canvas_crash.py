"""Whenever a writer is killed, what is on disk is a canvas, and what its head calls done is there, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_parts import SMALL, cells, head, owner, pixels

from raytile.canvas import export, store
from raytile.canvas.digest import digest
from raytile.canvas.layout import CanvasLayout
from raytile.errors import CanvasError
from raytile.plan.request import RenderRequest

MANY = CanvasLayout(width=250, height=256, channels=4, rows=32, columns=32, tile_cells=4, factor=8)
KILLS = 20
PRELOAD = ["raytile.canvas.store", "zarr", "zarr.codecs", "numpy", "canvas_parts"]


def test_sigkill_at_twenty_moments(tmp_path: Path) -> None:
    rng = random.Random(20)
    place = tmp_path / "a.zarr"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    midway = 0
    for kill in range(KILLS):
        here, there = context.Pipe()
        writer = context.Process(target=paint_for_ever, args=(place, f"run{kill}", there))
        writer.start()
        there.close()
        here.recv()  # it has begun
        if kill % 4:  # somewhere in a picture, however slow the machine is
            painted = rng.randrange(1, MANY.tiles)
            while sum(1 for _ in place.glob("image/c/0/*/*")) < painted:
                writer.join(timeout=0.001)
        writer.join(timeout=rng.uniform(0, 0.05 if kill % 4 else 0.25))
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        if not place.exists():
            continue  # killed between creating and naming it, or between the two names of an overwrite
        canvas = store.open(place)
        found = canvas.head()
        for tile in range(MANY.tiles):
            if found.has(tile):
                assert canvas.pixels_digest(tile) == digest(pixels(MANY, tile))
                assert canvas.latents_digest(tile) == digest(cells(MANY, tile))
        midway += 0 < found.done < MANY.tiles
    assert midway > KILLS // 4


def paint_for_ever(place: Path, token: str, begun: Connection) -> None:
    """Finish the canvas that is there, or a new one, and then another in its place, and so on."""
    me = owner(token)
    begun.send(True)
    canvas = store.open(place) if place.exists() else store.create(place, MANY, head(MANY, owner=me))
    canvas.commit(lambda found: found.but(owner=me, state="running"))
    while True:
        todo = list(canvas.head().missing())
        for start in range(0, len(todo), 3):
            batch = todo[start : start + 3]
            for tile in batch:
                canvas.write_latents(tile, cells(MANY, tile))
                canvas.write_image(tile, pixels(MANY, tile))
            canvas.commit(lambda found, batch=batch: found.with_tiles(batch, found.updated + 1))
        canvas.commit(lambda found: found.but(state="finished"))
        canvas = store.create(place, MANY, head(MANY, owner=me), overwrite=True)


def test_a_crash_at_any_step_of_an_overwrite(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    seen = []
    for step in range(100):
        folder = tmp_path / str(step)
        place = Path(store.create(folder / "a.zarr", SMALL, head(state="finished")).path)
        writer = context.Process(target=overwrite_until, args=(place, step))
        writer.start()
        writer.join()
        if place.exists():
            seen.append(store.open(place).head().owner.token)
        else:  # between its two names: the old canvas is whole, under the one it was moved to
            seen.append("none")
            (folder / ".a.zarr.t1.old").rename(folder / "aside.zarr")
            assert store.open(folder / "aside.zarr").head().owner.token == "t0"
        if writer.exitcode == 0:
            break
        assert writer.exitcode == 99
    assert writer.exitcode == 0
    assert sorted(set(seen), key=seen.index) == ["t0", "none", "t1"]


def overwrite_until(place: Path, step: int) -> None:
    """Replace a canvas, but end without any cleaning up before the flush or rename number `step`."""
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
    store.create(place, SMALL, head(owner=owner("t1")), overwrite=True)


def test_a_tile_is_flushed_before_its_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    flushed: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), canvas.path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    canvas.write_image(4, pixels(SMALL, 4))
    assert flushed == ["image/c/0/1/1", "image/c/0/1", "image/c/0", "image/c", "image"]
    flushed.clear()
    canvas.commit(lambda found: found.with_tiles([4], 2.0))
    assert flushed == ["head.json.new", "."]


def test_a_new_canvas_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note(descriptor: int) -> None:
        steps.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        steps.append(f"{self.name} > {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", note_rename)
    store.create(tmp_path / "a.zarr", SMALL, head())
    named = steps.index(".a.zarr.t0.new > a.zarr")
    before = set(steps[:named])
    for file in ("zarr.json", "image/zarr.json", "latents/zarr.json", "head.json", "image", "latents", ""):
        assert os.path.normpath(f".a.zarr.t0.new/{file}") in before
    assert steps[named + 1 :] == ["."]


# a disk that takes no more: here, files may not grow beyond so many bytes


@contextmanager
def files_end_at(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_tile_that_finds_no_room(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    with files_end_at(1000), pytest.raises(CanvasError, match=r"cannot write image of tile 0 to .*: File too large"):
        canvas.write_image(0, pixels(SMALL, 0))
    assert not canvas.stored(0)
    canvas.write_image(0, pixels(SMALL, 0))
    assert canvas.pixels_digest(0) == digest(pixels(SMALL, 0))


def test_a_head_that_finds_no_room_stays_as_it_was(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    with files_end_at(100), pytest.raises(CanvasError, match=r"cannot write head.json of .*: File too large"):
        canvas.commit(lambda found: found.but(state="finished"))
    assert canvas.head() == head()
    canvas.commit(lambda found: found.but(state="finished"))
    assert canvas.head().state == "finished"


@pytest.mark.parametrize("topology", ["flat", "equirectangular"])
def test_an_export_that_finds_no_room_leaves_what_was_there(tmp_path: Path, topology: str) -> None:
    request = RenderRequest.parse(prompt="", width=SMALL.width, height=SMALL.height, topology=topology)
    canvas = store.create(tmp_path / "a.zarr", SMALL, head(request=request))
    for tile in range(SMALL.tiles):
        canvas.write_image(tile, np.asarray(pixels(SMALL, tile)))
    (tmp_path / "a.png").write_text("older")
    with files_end_at(5000), pytest.raises(CanvasError, match=r"cannot export to .*a\.png"):
        export.export_picture(canvas, tmp_path / "a.png", overwrite=True, partial=True)
    assert (tmp_path / "a.png").read_text() == "older"
    assert {found.name for found in tmp_path.iterdir()} == {"a.png", "a.zarr"}
