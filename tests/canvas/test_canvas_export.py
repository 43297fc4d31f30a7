"""An exported picture has the canvas's pixels, appears whole or not at all, and never lies in memory whole."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from canvas_parts import SMALL, head, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raytile.canvas import rawtiff, store
from raytile.canvas.canvas import Canvas
from raytile.canvas.export import check_output, export_picture
from raytile.canvas.info import describe
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.rawtiff import RawTiff
from raytile.errors import CanvasError
from raytile.geometry.box import Box


def finished(place: Path, layout: CanvasLayout = SMALL) -> Canvas:
    canvas = store.create(place, layout, head(layout))
    for tile in range(layout.tiles):
        canvas.write_image(tile, pixels(layout, tile))
    canvas.commit(lambda found: found.with_tiles(range(layout.tiles), 2.0).but(state="finished"))
    return canvas


def array(canvas: Canvas) -> np.ndarray:
    whole = canvas.read_image(Box(0, canvas.layout.height, 0, canvas.layout.width))
    return whole.transpose(1, 2, 0)


@pytest.mark.parametrize("ending", ["png", "tif", "PNG"])
@pytest.mark.parametrize(("width", "height"), [(90, 70), (1, 1), (33, 64), (64, 31)])
def test_lossless_pictures_equal_the_array(tmp_path: Path, ending: str, width: int, height: int) -> None:
    layout = CanvasLayout(width, height, channels=4, rows=10, columns=12, tile_cells=4, factor=8)
    canvas = finished(tmp_path / "a.zarr", layout)
    seen: list[tuple[int, int]] = []
    file = export_picture(canvas, tmp_path / f"a.{ending}", progress=lambda *now: seen.append(now))
    with Image.open(file) as picture:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), array(canvas))
    bands = -(-height // layout.tile)
    assert seen == [(band + 1, bands) for band in range(bands)]


def test_quality_makes_jpeg_and_webp_smaller(tmp_path: Path) -> None:
    canvas = finished(tmp_path / "a.zarr")
    for ending in ("jpg", "webp"):
        low, high = (
            export_picture(canvas, tmp_path / f"{quality}.{ending}", quality=quality).stat().st_size
            for quality in (20, 95)
        )
        assert low < high
        with Image.open(tmp_path / f"95.{ending}") as picture:
            assert picture.size == (SMALL.width, SMALL.height)


def test_jpeg_is_close(tmp_path: Path) -> None:
    layout = CanvasLayout(width=64, height=64, channels=4, rows=8, columns=8, tile_cells=4, factor=8)
    canvas = store.create(tmp_path / "a.zarr", layout, head(layout))
    for tile in range(layout.tiles):
        canvas.write_image(tile, np.full((3, 32, 32), 60 * tile, np.uint8))
    with Image.open(export_picture(canvas, tmp_path / "a.jpg", partial=True)) as picture:
        found = np.asarray(picture)
    for tile in range(layout.tiles):
        y, x = divmod(tile, 2)
        assert abs(int(found[32 * y + 16, 32 * x + 16, 0]) - 60 * tile) <= 2


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17), st.integers(100, 4000), st.integers(1, 3000))
@settings(max_examples=50)
def test_the_made_up_tiff_is_a_tiff(width: int, height: int, rows: int, strip: int, length: int) -> None:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rawtiff, "STRIP_BYTES", strip)
        tape = RawTiff(width, height, rows, lambda band: memoryview(values[band * rows :][:rows].tobytes()))
    whole = b"".join(iter(lambda: tape.read(length), b""))
    with Image.open(io.BytesIO(whole)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), values)
    assert tape.seek(-2, 2) == len(whole) - 2
    assert tape.read(9) == whole[-2:]
    assert tape.seek(3, 0) == 3
    assert tape.seek(2, 1) == 5


def test_an_unfinished_canvas_needs_partial(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    canvas.write_image(0, pixels(SMALL, 0))
    canvas.commit(lambda found: found.with_tiles([0], 2.0))
    with pytest.raises(
        CanvasError, match=r"is running with 1 of 9 tiles painted: finish it with raytile resume.*--partial"
    ):
        export_picture(canvas, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
    with Image.open(export_picture(canvas, tmp_path / "a.png", partial=True)) as picture:
        found = np.asarray(picture)
    np.testing.assert_array_equal(found[:32, :32], pixels(SMALL, 0).transpose(1, 2, 0))
    assert not found[32:].any()


def test_a_finished_canvas_that_lost_a_tile_is_not_exported(tmp_path: Path) -> None:
    canvas = finished(tmp_path / "a.zarr")
    (Path(canvas.path) / "image/c/0/1/2").unlink()
    with pytest.raises(CanvasError, match="no image of tile 5"):
        export_picture(canvas, tmp_path / "a.png")


def test_a_torn_tile_ends_the_export_and_leaves_nothing(tmp_path: Path) -> None:
    canvas = finished(tmp_path / "a.zarr")
    chunk = Path(canvas.path) / "image/c/0/2/1"
    chunk.write_bytes(chunk.read_bytes()[:40])
    with pytest.raises(CanvasError, match="cannot read"):
        export_picture(canvas, tmp_path / "a.png")
    assert [found.name for found in tmp_path.iterdir()] == ["a.zarr"]


def test_bad_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("a.gif", r"must end in one of \.png, \.jpg, \.jpeg, \.tif, \.webp, \.tiff"),
        ("a", "must end in one of"),
        ("there.png", "exists: .* --overwrite"),
        ("none/a.png", "there is no directory"),
    ):
        with pytest.raises(CanvasError, match=message):
            check_output(tmp_path / name, SMALL)
    with pytest.raises(CanvasError, match="exists"):
        check_output(tmp_path / "folder.png", SMALL, overwrite=True)
    check_output(tmp_path / "there.png", SMALL, overwrite=True)
    with pytest.raises(CanvasError, match=r"has 255 bytes, at most \d+ fit here"):  # its temporary name has more
        check_output(tmp_path / f"{'n' * 251}.png", SMALL)
    wide = CanvasLayout(width=65_536, height=8, channels=4, rows=1, columns=8192, tile_cells=8, factor=8)
    with pytest.raises(CanvasError, match="at most 65535 pixels a side"):
        check_output(tmp_path / "a.jpg", wide)


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = {}
    for height in (2048, 65_536):  # of 1024 pixels each: 6 MB and 201 MB
        layout = CanvasLayout(1024, height, channels=4, rows=height // 8, columns=128, tile_cells=64, factor=8)
        canvas = store.create(tmp_path / f"{height}.zarr", layout, head(layout))
        canvas.write_image(0, pixels(layout, 0))
        code = (
            "from raytile.canvas import store; from raytile.canvas.export import export_picture;"
            f"export_picture(store.open({str(canvas.path)!r}), {str(tmp_path / f'{height}.png')!r}, partial=True);"
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        peaks[height] = int(done.stdout) * 1024
    assert peaks[65_536] - peaks[2048] < 40e6


def test_describe_tells_what_the_head_and_the_disk_say(tmp_path: Path) -> None:
    canvas = finished(tmp_path / "a.zarr")
    latents = "l" * 64
    canvas.commit(lambda found: found.but(summary={"latents_sha256": latents, "pixels_sha256": "p" * 64}))
    found = describe(canvas)
    assert (found["width"], found["height"], found["state"], found["seed"]) == (90, 70, "finished", 7)
    assert (found["tiles_done"], found["tiles_total"], found["tile"]) == (9, 9, 32)
    assert (found["prompt"], found["model"], found["latents_sha256"]) == ("an island", "terra", latents)
    assert found["bytes_on_disk"] == sum(file.stat().st_size for file in Path(canvas.path).rglob("*") if file.is_file())
