"""Any region of a canvas at any size: from pixels where there are any, else from previews, else grey."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile import api, reworks
from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.layout import CanvasLayout
from raytile.engine.previews import reduced
from raytile.errors import InvalidRequest
from raytile.events import Event, PreviewStored, StepDone
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest
from raytile.scenes import Layer
from raytile.serve import zoom
from raytile.serve.pyramid import NEUTRAL
from raytile.serve.tiles import Picture, blank, encoded, fitting, picture
from tests.canvas.canvas_parts import head

LAYOUT = CanvasLayout(
    width=301, height=213, channels=4, rows=27, columns=38, tile_cells=8, factor=8, levels=((14, 19),)
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def smooth(layout: CanvasLayout, seed: int = 0) -> Any:
    """A picture (3, height, width) without sudden steps."""
    y, x = np.mgrid[0 : layout.height, 0 : layout.width]
    waves = [np.sin((x * (k + 1) + y * (3 - k)) / 25 + seed + k) for k in range(3)]
    return np.rint(128 + 100 * np.stack(waves)).astype(np.uint8)


def made(place: Path | str, layout: CanvasLayout = LAYOUT, **changes: Any) -> Canvas:
    return store.create(place, layout, head(layout, **changes))


def paint(canvas: Canvas, whole: Any, tiles: Any) -> None:
    """As workers do: a tile's preview, its pixels, and then the head knows."""
    layout = canvas.layout
    for tile in tiles:
        box = layout.pixels(tile)
        pixels = whole[:, box.y0 : box.y1, box.x0 : box.x1]
        if box.area:
            canvas.write_preview(len(layout.levels), tile, reduced(pixels, layout.cells(tile), layout.factor))
        canvas.write_image(tile, np.ascontiguousarray(pixels))
    canvas.commit(lambda now: now.with_tiles(tiles, 2.0))


def means(whole: Any, k: int) -> Any:
    """(h, w, 3), the means of the k x k blocks of a picture (3, height, width), as far as they reach."""
    found = np.empty((-(-whole.shape[1] // k), -(-whole.shape[2] // k), 3))
    for y, x in np.ndindex(found.shape[:2]):
        found[y, x] = whole[:, y * k : (y + 1) * k, x * k : (x + 1) * k].mean(axis=(1, 2))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Picture, Any]:
    canvas, whole = made(tmp_path_factory.mktemp("tiles") / "a.zarr"), smooth(LAYOUT)
    paint(canvas, whole, range(LAYOUT.tiles))
    canvas.commit(lambda now: now.but(state="finished"))
    return Picture(canvas.path), whole


def test_every_deep_zoom_level_is_the_means_of_the_picture(finished: tuple[Picture, Any]) -> None:
    shown, whole = finished
    width, height = shown.size
    last = zoom.levels(width, height) - 1
    for level in range(last + 1):
        box, across, down = zoom.tile_box(width, height, level, 0, 0)
        got = shown.region(box, across, down)
        k = 2 ** (last - level)
        off = np.abs(got.astype(float) - means(whole, k)[:down, :across])
        # Exact to a rounding a halving; at ragged edges beyond a cell, what is left of a block may weigh more.
        assert off[: height // k, : width // k].max(initial=0) <= 0.51 + max(0, np.log2(k) - 3) * 0.5 + (k > 8)


def test_pixels_are_the_picture_s_own(finished: tuple[Picture, Any]) -> None:
    shown, whole = finished
    box = Box(13, 190, 7, 300)
    assert (shown.region(box, box.width, box.height) == whole[:, 13:190, 7:300].transpose(1, 2, 0)).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_region_at_any_size_is_near_the_picture(finished: tuple[Picture, Any], data: st.DataObject) -> None:
    shown, whole = finished
    width, height = shown.size
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    across, down = data.draw(st.integers(1, 2 * (x1 - x0))), data.draw(st.integers(1, 2 * (y1 - y0)))
    got = shown.region(Box(y0, y1, x0, x1), across, down).astype(float)
    assert got.shape == (down, across, 3)
    # The middle of the region, where both agree on what a pixel is the mean of.
    part = whole[:, y0:y1, x0:x1].astype(float)
    low, high = part.min(axis=(1, 2)), part.max(axis=(1, 2))
    rim = 8 * max((y1 - y0) / down, (x1 - x0) / across)  # what a filter may see around, and a wave may change there
    assert (got.min(axis=(0, 1)) >= low - 30 - rim).all()
    assert (got.max(axis=(0, 1)) <= high + 30 + rim).all()
    mean = got.reshape(-1, 3).mean(axis=0) - part.mean(axis=(1, 2))
    assert np.abs(mean).max() < 12 + rim


def test_neighbouring_tiles_meet_without_a_step(finished: tuple[Picture, Any]) -> None:
    """A region in two halves is the region whole, also where it has to be resampled."""
    shown, _ = finished
    whole = shown.region(Box(0, 210, 0, 300), 100, 70).astype(int)
    left, right = shown.region(Box(0, 210, 0, 150), 50, 70), shown.region(Box(0, 210, 150, 300), 50, 70)
    assert np.abs(np.concatenate([left, right], axis=1) - whole).max() <= 1


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [((0, 0, 0, 5), 1, 1), ((0, 214, 0, 5), 1, 1), ((0, 5, -1, 5), 1, 1), ((0, 5, 0, 5), 0, 1)],
)
def test_what_is_not_in_the_picture_is_refused(
    finished: tuple[Picture, Any], box: tuple[int, int, int, int], width: int, height: int
) -> None:
    with pytest.raises(InvalidRequest, match="region"):
        finished[0].region(Box(*box), width, height)


def test_from_nothing_by_previews_to_pixels(tmp_path: Path) -> None:
    canvas, whole, clock = made(tmp_path / "a.zarr"), smooth(LAYOUT), Clock()
    shown, box = Picture(canvas.path, clock), Box(0, 213, 0, 301)

    def seen(k: int) -> Any:
        clock.now += 60  # nothing that changes is kept for so long
        return shown.region(box, -(-301 // k), -(-213 // k)).astype(float)

    for k in (1, 8, 64):
        assert (seen(k) == NEUTRAL).all()
    # A coarser level begins: its colours, wherever they are known, at every scale.
    for tile in range(LAYOUT.level_tiles(0)):
        cells = LAYOUT.level_cells(0, tile)
        canvas.write_preview(0, tile, np.full((3, cells.height, cells.width), 60, np.uint8))
    for k in (1, 4, 8, 16, 512):
        assert (seen(k) == 60).all()
    # The finest level, in some tiles.
    last = len(LAYOUT.levels)
    for tile in range(0, LAYOUT.tiles, 2):
        cells = LAYOUT.cells(tile)
        canvas.write_preview(last, tile, np.full((3, cells.height, cells.width), 200, np.uint8))
    for k in (1, 8):
        inner = seen(k)[64 // k // 4 : 64 // k // 2, 64 // k // 4 : 64 // k // 2]  # amid tile 0
        assert np.abs(inner - 200).max() <= 8
        assert np.abs(seen(k)[8 // k + 1, 96 // k] - 60).max() <= 8  # amid tile 1
    # Tiles are decoded: pixels there, previews elsewhere.
    paint(canvas, whole, [0, 1])
    assert (seen(1)[:64, :128] == whole[:, :64, :128].transpose(1, 2, 0)).all()
    assert np.abs(seen(8)[:8, :16] - means(whole, 8)[:8, :16]).max() <= 0.51
    assert np.abs(seen(1)[:44, 144:176] - 200).max() <= 8
    assert shown.final(Box(0, 64, 0, 128), shown.look()) is not None
    assert shown.final(Box(0, 64, 0, 129), shown.look()) is None
    # All of it.
    paint(canvas, whole, range(2, LAYOUT.tiles))
    assert (seen(1) == whole.transpose(1, 2, 0)).all()


def test_what_is_final_is_never_answered_from_what_was_kept_before(tmp_path: Path) -> None:
    """However soon after the last tile somebody asks: this answer may be cached for ever."""
    canvas, whole, clock = made(tmp_path / "a.zarr"), smooth(LAYOUT), Clock()
    shown, box = Picture(canvas.path, clock), Box(0, 213, 0, 301)
    for k in (1, 4, 8, 64):
        shown.region(box, -(-301 // k), -(-213 // k))
    paint(canvas, whole, range(LAYOUT.tiles))
    clock.now += 0.3  # the head is looked at anew, squares would be kept on
    for k in (1, 4, 8, 64):
        got = shown.region(box, -(-301 // k), -(-213 // k)).astype(float)
        assert shown.final(box, shown.look()) is not None
        assert np.abs(got - means(whole, k))[: 213 // k, : 301 // k].max() <= 4


def test_a_square_that_changes_is_kept_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, clock, reads = made(tmp_path / "a.zarr"), Clock(), []
    read = Canvas.read_preview
    monkeypatch.setattr(Canvas, "read_preview", lambda self, *args: reads.append(args) or read(self, *args))
    shown, box = Picture(canvas.path, clock), Box(0, 213, 0, 301)
    for moment in (0.0, 0.5, 0.9):
        clock.now = moment
        shown.region(box, 38, 27)
    once = len(reads)
    assert once
    clock.now = 1.5
    shown.region(box, 38, 27)
    assert len(reads) == 2 * once


@pytest.mark.parametrize("finest", [True, False])
def test_a_canvas_without_previews_is_shown_too(tmp_path: Path, finest: bool) -> None:
    """As those are that were made before there were previews: overviews come from their pixels."""
    canvas, whole = made(tmp_path / "a.zarr"), smooth(LAYOUT)
    paint(canvas, whole, range(0 if finest else 5, LAYOUT.tiles))
    for name in ("preview", "preview_0"):
        shutil.rmtree(tmp_path / "a.zarr" / name)
    shown = Picture(canvas.path)
    got, wanted = shown.region(Box(0, 213, 0, 301), 38, 27).astype(float), means(whole, 8)
    there = slice(0, None) if finest else slice(9, None)  # below the first row of tiles
    assert np.abs(got[there] - wanted[there]).max() <= 0.51
    if not finest:
        assert (got[:8, :38] == NEUTRAL).all()


def test_a_chunk_that_does_not_read_is_as_good_as_none(tmp_path: Path) -> None:
    canvas = made(tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr" / "preview" / "c" / "0" / "0" / "0"
    canvas.write_preview(1, 0, np.full((3, 8, 8), 200, np.uint8))
    chunk.write_bytes(chunk.read_bytes()[:9])
    assert (Picture(canvas.path).region(Box(0, 213, 0, 301), 38, 27) == NEUTRAL).all()


def test_little_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the picture: an overview of it reads its preview in squares, a region its pixels tile by tile."""
    layout = replace(LAYOUT, width=4096, height=4096, rows=512, columns=512, tile_cells=32, levels=())
    canvas, asked = made(tmp_path / "a.zarr", layout), []
    read = Canvas.read_preview

    def noted(self: Canvas, level: int, box: Box) -> Any:
        asked.append(box.area)
        return read(self, level, box)

    monkeypatch.setattr(Canvas, "read_preview", noted)
    assert Picture(canvas.path).region(Box(0, 4096, 0, 4096), 64, 64).shape == (64, 64, 3)
    assert max(asked) <= 256 * 256


def test_pictures_of_other_sizes_are_overviews(finished: tuple[Picture, Any]) -> None:
    place = finished[0]._canvas.path
    assert picture(place, 100).size == (100, 71)
    assert picture(place, 10_000).size == (301, 213)
    assert fitting((5000, 1), 100) == (100, 1)


@pytest.mark.parametrize(("encoding", "start"), [("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG"), ("webp", b"RIFF")])
def test_files_are_what_they_are_called(encoding: Any, start: bytes) -> None:
    assert encoded(blank(5, 4), encoding).startswith(start)
    assert encoded(blank(5, 4)[:, :, 0], encoding).startswith(start)


def test_what_is_not_painted_anew_is_seen_from_the_beginning(tmp_path: Path) -> None:
    """While a part is repainted, or sides grow: what was there stays in sight, not grey."""
    wish = RenderRequest(prompt="an island", width=512, height=384, model="toy", steps=3, tile=128, levels=1)
    old = api.render(wish, tmp_path / "old.zarr", in_process=True)
    before = old.read_image(Box(0, 384, 0, 512)).transpose(1, 2, 0)
    again = reworks.repainted(old.path, Layer("", {"prompt": "a lake"}), [{"box": [150, 20, 60, 60]}])
    grown = reworks.extended(old.path, Layer("", {}), right=128)
    for name, request in (("again", again), ("grown", grown)):
        seen = []

        def look(event: Event, name: str = name, seen: list[Any] = seen) -> None:
            if isinstance(event, StepDone) and not seen:
                shown = Picture(tmp_path / f"{name}.zarr")
                assert not shown.look().done.any()
                seen += [shown.region(Box(0, 384, 0, 512), 512, 384), shown.region(Box(0, 384, 0, 512), 64, 48)]

        api.render(request, tmp_path / f"{name}.zarr", in_process=True, listeners=[look])
        fine, coarse = (
            np.abs(each.astype(float) - wanted)
            for each, wanted in zip(seen, (before, means(old.read_image(Box(0, 384, 0, 512)), 8)), strict=True)
        )
        assert (fine[128:, :256] == 0).all()
        assert coarse[16:, :32].max() <= 1
        if name == "again":  # the tile to be painted shows what it is painted on
            assert fine[:, 256:].max() == 0
            assert (fine[:100, 128:250] == 0).all()


def test_faces_of_a_cube_are_seen_as_they_emerge(tmp_path: Path) -> None:
    wish = RenderRequest(prompt="x", width=768, height=512, model="toy", topology="cube", levels=2, tile=128, steps=4)
    seen: list[Any] = []

    def look(event: Event) -> None:
        if isinstance(event, PreviewStored):
            shown = Picture(tmp_path / "a.zarr").region(Box(0, 512, 0, 768), 96, 64)
            seen.append((event.level, (shown == NEUTRAL).all(axis=2).mean()))

    api.render(wish, tmp_path / "a.zarr", in_process=True, preview_every=1, listeners=[look])
    assert {level for level, _ in seen} == {0, 1}
    assert all(grey < 0.02 for _, grey in seen)


@pytest.mark.usefixtures("s3")
def test_a_canvas_in_a_bucket() -> None:
    canvas, whole = made(f"s3://pictures/{secrets.token_hex(4)}/a.zarr"), smooth(LAYOUT)
    paint(canvas, whole, range(7))
    shown, box = Picture(canvas.path), Box(0, 213, 0, 301)
    assert (shown.region(box, 301, 213)[:64] == whole[:, :64].transpose(1, 2, 0)).all()
    assert (shown.region(box, 38, 27)[-3:] == NEUTRAL).all()
