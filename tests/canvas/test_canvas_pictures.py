"""Pictures of every kind come in upright, in sRGB, without transparency, scaled, in strips of squares."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from canvas_parts import SMALL, head, painted
from PIL import Image, ImageCms, ImageOps

from raytile.canvas import picture, store
from raytile.canvas.inputs import identify
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.picture import AT_ONCE, pour
from raytile.canvas.vips import CONCURRENCY
from raytile.errors import InvalidRequest
from raytile.geometry.box import Box

Values = np.ndarray[Any, Any]


def poured(path: Path | str, width: int, height: int, bands: int = 3, side: int = 32) -> Values:
    """The picture as (h, w, bands); every pixel must come once, in a few whole squares at a time."""
    found = np.zeros((bands, height, width), np.uint8)
    seen = np.zeros((height, width), int)

    def write(box: Box, values: Values) -> None:
        assert values.shape == (bands, box.height, box.width)
        assert (box.y0 % side, box.x0 % side) == (0, 0)
        assert box.y1 == height or box.y1 % side == 0
        assert box.x1 == width or box.x1 % side == 0
        assert box.area <= AT_ONCE * side**2
        found[:, box.y0 : box.y1, box.x0 : box.x1] = values
        seen[box.y0 : box.y1, box.x0 : box.x1] += 1

    pour(str(path), bands, width, height, side, write)
    assert (seen == 1).all()
    return found.transpose(1, 2, 0)


def noise(height: int, width: int, bands: int = 3) -> Values:
    return np.random.default_rng(5).integers(0, 256, (height, width, bands), np.uint8)


def smooth(height: int, width: int) -> Values:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 9)], -1).astype(np.uint8)


@pytest.mark.parametrize(("ending", "options"), [("png", {}), ("tif", {}), ("webp", {"lossless": True})])
@pytest.mark.parametrize("size", [(70, 90), (1, 1), (64, 32), (33, 100)])
def test_what_has_the_size_comes_as_it_is(
    tmp_path: Path, ending: str, options: dict[str, bool], size: tuple[int, int]
) -> None:
    values = noise(*size)
    Image.fromarray(values).save(tmp_path / f"a.{ending}", **options)
    np.testing.assert_array_equal(poured(tmp_path / f"a.{ending}", size[1], size[0]), values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(70, 90), (100, 33)])
def test_orientation_is_honoured(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    stored = Image.fromarray(noise(*size))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    height, width = upright.shape[:2]
    found = identify(tmp_path / "a.png")
    assert (found.kind, found.width, found.height) == ("file", width, height)
    np.testing.assert_array_equal(poured(tmp_path / "a.png", width, height), upright)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(50, 70), (333, 201), (140, 180)])
def test_scaling_keeps_everything_in_its_place(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(smooth(140, 180))
    stored.save(tmp_path / "a.png", exif=exif)
    upright = stored if orientation == 1 else stored.transpose(Image.Transpose.ROTATE_270)
    expected = np.asarray(upright.resize(size[::-1], Image.Resampling.LANCZOS)).astype(int)
    found = poured(tmp_path / "a.png", size[1], size[0]).astype(int)
    assert np.abs(found - expected)[3:-3, 3:-3].max() <= 6
    assert np.abs(found - expected).mean() < 1


def test_what_is_transparent_turns_black(tmp_path: Path) -> None:
    values = np.full((8, 8, 4), 200, np.uint8)
    values[:, :4, 3] = 0
    values[:, 4:, 3] = 128
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    found = poured(tmp_path / "a.png", 8, 8).astype(int)
    assert (found[:, :4] == 0).all()
    assert np.abs(found[:, 4:] - 100).max() <= 1
    grey = poured(tmp_path / "a.png", 8, 8, bands=1).astype(int)
    assert (grey[:, :4] == 0).all()
    assert np.abs(grey[:, 4:] - 100).max() <= 1


def test_grey_sixteen_bits_palette_and_cmyk(tmp_path: Path) -> None:
    grey = noise(20, 30, 1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(poured(tmp_path / "grey.png", 30, 20), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(poured(tmp_path / "grey.png", 30, 20, bands=1)[..., 0], grey)
    deep = pyvips.Image.new_from_array(grey.astype(np.uint16) * 257).copy(interpretation="grey16")
    deep.pngsave(str(tmp_path / "deep.png"), bitdepth=16)
    np.testing.assert_array_equal(poured(tmp_path / "deep.png", 30, 20, bands=1)[..., 0], grey)
    Image.fromarray(noise(20, 30)).quantize(7).save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(poured(tmp_path / "palette.png", 30, 20), expected)
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red.save(tmp_path / "cmyk.jpg", quality=95)
    pixel = poured(tmp_path / "cmyk.jpg", 16, 16)[8, 8].astype(int)
    assert pixel[0] > 180
    assert pixel[1:].max() < 90


def test_colours_are_brought_to_srgb_and_values_of_masks_are_not(tmp_path: Path) -> None:
    linear = Image.fromarray(np.full((8, 8, 3), 55, np.uint8))
    # A profile in which the same numbers mean other colours: L*a*b*-like gamma is not needed, a swapped curve will do.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear.save(tmp_path / "same.png", icc_profile=profile)
    np.testing.assert_allclose(poured(tmp_path / "same.png", 8, 8), 55, atol=1)
    p3 = pyvips.Image.new_from_array(np.full((8, 8, 3), (255, 0, 0), np.uint8)).copy(interpretation="srgb")
    p3 = p3.icc_transform("p3", input_profile="srgb")
    moved = p3.numpy()[0, 0].astype(int)
    assert moved[1] > 30  # sRGB's red has green in it there
    p3.pngsave(str(tmp_path / "p3.png"))
    np.testing.assert_allclose(poured(tmp_path / "p3.png", 8, 8)[0, 0], (255, 0, 0), atol=2)


@pytest.mark.parametrize("size", [(64, 64), (100, 80), (20, 30)])
def test_a_mask_stays_black_away_from_its_edge(tmp_path: Path, size: tuple[int, int]) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[:, 20:] = 255
    Image.fromarray(values).save(tmp_path / "m.png")
    found = poured(tmp_path / "m.png", size[1], size[0], bands=1)[..., 0]
    edge = size[1] / 2
    margin = 2 * max(1, size[1] / 40)
    assert (found[:, : int(edge - margin)] == 0).all()
    assert (found[:, int(edge + margin) :] == 255).all()


def test_a_canvas_comes_as_its_picture(tmp_path: Path) -> None:
    canvas = painted(store.create(tmp_path / "a.zarr", SMALL, head()))
    whole = canvas.read_image(Box(0, 70, 0, 90)).transpose(1, 2, 0)
    np.testing.assert_array_equal(poured(canvas.path, 90, 70, side=16), whole)
    small = np.asarray(Image.fromarray(whole).resize((30, 20), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(poured(canvas.path, 30, 20).astype(int) - small).mean() < 4
    torn = Path(canvas.path) / "image/c/0/1/1"
    torn.write_bytes(torn.read_bytes()[:30])
    with pytest.raises(Exception, match="cannot read image of"):
        poured(canvas.path, 30, 20)


# what is refused


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "is no PNG, JPEG, TIFF or WebP"),
        ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "is no PNG, JPEG, TIFF or WebP"),
        ("a.png", b"", "is no PNG, JPEG, TIFF or WebP"),
        ("a.gif", b"GIF89a" + bytes(20), "is no PNG, JPEG, TIFF or WebP"),
        ("a.png", png(2**20 + 1, 8), "1048577x8 pixels are too many, at most 1048576 a side: scale it down"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "cannot read .*: is it whole"),
        ("a.jpg", jpeg()[:100], "cannot read .*: is it whole"),
        ("a.tif", b"II*\0" + bytes(20), "cannot read .*: is it whole"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidRequest, match=message) as told:
        identify(tmp_path / name)
    assert "\n" not in str(told.value)


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg()[:-900])
    with pytest.raises(InvalidRequest, match=r"cannot read .*a\.jpg: .*is it whole"):
        poured(tmp_path / "a.jpg", 64, 64)
    (tmp_path / "a.png").write_bytes(png(64, 64))
    with pytest.raises(InvalidRequest, match=r"cannot read .*a\.png: .*is it whole"):
        poured(tmp_path / "a.png", 64, 64)


@pytest.mark.parametrize(("compression", "cut"), [(None, True), ("tiff_lzw", False)])
def test_a_broken_tiff_is_refused(tmp_path: Path, compression: str | None, cut: bool) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(noise(256, 256)).save(file, compression=compression)
    data = bytearray(file.read_bytes())
    data[1000:1002] = bytes(255 - value for value in data[1000:1002])
    file.write_bytes(data[: len(data) // 2] if cut else data)
    with pytest.raises(InvalidRequest, match=r"cannot read .*a\.tif: .*is it whole"):
        poured(file, 256, 256)


@pytest.mark.parametrize("ending", ["webp", "png", "jpg", "tif"])
def test_what_took_a_files_place_is_what_is_taken_in(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    for side, grey in ((64, 10), (32, 200)):  # libvips remembers some files by their names
        Image.fromarray(np.full((side, side, 3), grey, np.uint8)).save(file)
        assert identify(file).width == side
        np.testing.assert_allclose(poured(file, side, side), grey, atol=2)


def test_floats_and_large_interlaced_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InvalidRequest, match="has 1 bands of float: save it with 8 or 16 bits a colour"):
        identify(tmp_path / "a.tif")
    image = pyvips.Image.new_from_array(noise(64, 64)).copy(interpretation="srgb")
    monkeypatch.setattr(picture, "WHOLE", 64 * 64 - 1)
    for name, options in (("a.png", {"interlace": True}), ("a.jpg", {"interlace": True}), ("a.webp", {})):
        image.write_to_file(str(tmp_path / name), **options)
        with pytest.raises(InvalidRequest, match="too large for an interlaced or WebP file: save it as plain PNG"):
            identify(tmp_path / name)
    for name in ("b.png", "b.jpg", "b.tif"):
        image.write_to_file(str(tmp_path / name))
        assert identify(tmp_path / name).width == 64


def test_the_name_does_not_matter_and_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(jpeg())
    assert identify(tmp_path / "a.txt").sha256 == hashlib.sha256(jpeg()).hexdigest()


def test_only_finished_canvases_can_be_taken_in(tmp_path: Path) -> None:
    canvas = store.create(tmp_path / "a.zarr", SMALL, head())
    with pytest.raises(InvalidRequest, match="is running: only a finished canvas can be taken in, try raytile resume"):
        identify(canvas.path)
    painted(canvas)
    found = identify(canvas.path)
    assert (found.kind, found.width, found.height) == ("canvas", 90, 70)
    latents, pixels = canvas.digests()
    canvas.commit(lambda now: now.but(summary={"latents_sha256": latents, "pixels_sha256": pixels}))
    assert identify(canvas.path) == found  # as stored, and as told
    other = painted(store.create(tmp_path / "b.zarr", SMALL, head()), seed=1)
    assert identify(other.path).sha256 != found.sha256
    for name in ("none.zarr", "none.png", "."):
        with pytest.raises(InvalidRequest, match=r"there is no canvas at|cannot read"):
            identify(tmp_path / name)


# memory


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    peaks = {}
    for width in (512, 8192):
        file = tmp_path / f"{width}.jpg"
        Image.effect_noise((width, width // 2), 60).convert("RGB").save(file, quality=80)
        layout = CanvasLayout(
            width, width // 2, channels=4, rows=width // 16, columns=width // 8, tile_cells=32, factor=8
        )
        code = (
            "import sys; sys.path.insert(0, 'tests/canvas')\n"
            "from canvas_parts import head\n"
            "from raytile.canvas import store; from raytile.canvas.inputs import Inputs, Taken\n"
            "from raytile.canvas.layout import CanvasLayout\n"
            f"layout = {layout}\n"
            f"taken = Taken({str(file)!r}, layout.width, layout.height)\n"
            f"store.create({str(tmp_path / f'{width}.zarr')!r}, layout, head(layout), "
            "inputs=Inputs(source=taken, control=taken))\n"
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        peaks[width] = int(done.stdout) * 1024
    assert peaks[8192] - peaks[512] < 150e6


def test_no_more_than_a_strip_is_held(tmp_path: Path) -> None:
    width, side = 8192, 128
    Image.fromarray(noise(5 * side, width)).save(tmp_path / "wide.png")
    tracemalloc.start()
    try:
        pour(str(tmp_path / "wide.png"), 3, width, 5 * side, side, lambda *_: None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert side * width * 3 <= most < 1.5 * side * width * 3


def test_libvips_has_one_thread_unless_the_environment_says_more() -> None:
    asks = "from raytile.canvas.vips import libvips; print(libvips().concurrency_get())"

    def threads(**more: str) -> int:
        kept = {name: value for name, value in os.environ.items() if name != CONCURRENCY}
        return int(subprocess.check_output([sys.executable, "-c", asks], env={**kept, **more}))

    assert (threads(), threads(**{CONCURRENCY: "3"})) == (1, 3)
