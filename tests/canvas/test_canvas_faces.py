"""Faces of a canvas become files of their own, and a map of a whole sphere says what it is."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import pyvips
from canvas_parts import SMALL, head, painted
from PIL import Image

from raytile.canvas import store
from raytile.canvas.export import export_faces, export_picture
from raytile.canvas.layout import CanvasLayout
from raytile.errors import CanvasError
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest

SPHERE = CanvasLayout(width=128, height=64, channels=4, rows=8, columns=16, tile_cells=4, factor=8)
FACES = {"right": Box(0, 32, 0, 30), "left": Box(0, 33, 30, 60), "back": Box(33, 70, 7, 90)}


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_faces_are_boxes_of_the_picture(tmp_path: Path, ending: str) -> None:
    canvas = painted(store.create(tmp_path / "cube.zarr", SMALL, head()))
    seen: list[tuple[int, int]] = []
    found = export_faces(canvas, tmp_path / "faces", FACES, ending=ending, progress=lambda *now: seen.append(now))
    assert [file.name for file in found] == [f"cube-{face}{ending}" for face in FACES]
    assert seen == [(done, 5) for done in range(1, 6)]
    for file, box in zip(found, FACES.values(), strict=True):
        with Image.open(file) as opened:
            np.testing.assert_array_equal(np.asarray(opened), canvas.read_image(box).transpose(1, 2, 0))
    assert {file.name for file in (tmp_path / "faces").iterdir()} == {file.name for file in found}


def test_faces_are_all_checked_before_the_first_is_written(tmp_path: Path) -> None:
    canvas = painted(store.create(tmp_path / "cube.zarr", SMALL, head()))
    (tmp_path / "cube-back.png").write_text("mine")
    for faces, options, message in (
        (FACES, {}, r"cube-back\.png exists: .*--overwrite"),
        ({"right": FACES["right"], "top": Box(0, 71, 0, 8)}, {}, "face top: .* does not lie in the picture of 90x70"),
        ({"right": FACES["right"], "top": Box(4, 4, 0, 8)}, {}, "face top: .* does not lie"),
        (FACES, {"ending": ".gif"}, "must end in one of"),
    ):
        with pytest.raises(CanvasError, match=message):
            export_faces(canvas, tmp_path, faces, **options)
        assert not (tmp_path / "cube-right.png").exists()
    export_faces(canvas, tmp_path, FACES, overwrite=True)
    running = store.create(tmp_path / "b.zarr", SMALL, head())
    with pytest.raises(CanvasError, match="finish it with raytile resume"):
        export_faces(running, tmp_path, FACES)
    assert len(export_faces(running, tmp_path, FACES, partial=True)) == 3


def sphere(tmp_path: Path, **wish: str) -> tuple[Path, RenderRequest]:
    request = RenderRequest.parse(prompt="", width=128, height=64, **wish)
    canvas = painted(store.create(tmp_path / "a.zarr", SPHERE, head(SPHERE, request=request)))
    return Path(canvas.path), request


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("wish", [{"topology": "equirectangular"}, {"wrap": "x"}])
def test_a_map_of_a_sphere_says_so(tmp_path: Path, ending: str, wish: dict[str, str]) -> None:
    path, _ = sphere(tmp_path, **wish)
    file = export_picture(store.open(path), tmp_path / f"a.{ending}")
    image = pyvips.Image.new_from_file(str(file))
    said = fields(bytes(image.get("xmp-data")))
    assert said == {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "FullPanoWidthPixels": "128",
        "FullPanoHeightPixels": "64",
        "CroppedAreaImageWidthPixels": "128",
        "CroppedAreaImageHeightPixels": "64",
        "CroppedAreaLeftPixels": "0",
        "CroppedAreaTopPixels": "0",
    }
    with Image.open(file) as opened:  # another reader finds it too
        xmp = opened.info.get("xmp") or opened.tag_v2[700]
        assert fields(xmp if isinstance(xmp, bytes) else xmp.encode()) == said
        assert opened.size == (128, 64)


def fields(packet: bytes) -> dict[str, str]:
    """The GPano fields of an XMP packet, read as a program that knows XMP and no more does."""
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    space = "{http://ns.google.com/photos/1.0/panorama/}"
    root = ElementTree.fromstring(packet.decode("utf-8").strip("\ufeff\0 \n"))
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    found = {}
    for description in root.findall(f"{rdf}RDF/{rdf}Description"):
        for child in description:
            assert child.tag.startswith(space)
            found[child.tag.removeprefix(space)] = str(child.text)
    return found


@pytest.mark.parametrize("wish", [{}, {"wrap": "xy"}, {"topology": "cube"}])
def test_other_pictures_say_nothing(tmp_path: Path, wish: dict[str, str]) -> None:
    path, _ = sphere(tmp_path, **wish)
    image = pyvips.Image.new_from_file(str(export_picture(store.open(path), tmp_path / "a.png")))
    assert not image.get_typeof("xmp-data")


def test_a_face_of_a_sphere_is_no_sphere(tmp_path: Path) -> None:
    path, _ = sphere(tmp_path, topology="equirectangular")
    (file,) = export_faces(store.open(path), tmp_path, {"half": Box(0, 64, 0, 64)})
    assert not pyvips.Image.new_from_file(str(file)).get_typeof("xmp-data")
