"""What addresses of deep zoom mean: tiles cover a picture once, IIIF regions and sizes follow the specification."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.geometry.box import Box
from raytile.serve import zoom

sides = st.integers(1, 300)


# -- DeepZoom --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(sides, sides, st.integers(16, 64), st.integers(0, 1))
def test_the_tiles_of_each_level_cover_it_once(width: int, height: int, tile: int, overlap: int) -> None:
    count = zoom.levels(width, height)
    assert zoom.level_size(width, height, 0) == (1, 1)
    assert zoom.level_size(width, height, count - 1) == (width, height)
    for level in range(count):
        across, down = zoom.level_size(width, height, level)
        scale = 2 ** (count - 1 - level)
        assert (across, down) == (math.ceil(width / scale), math.ceil(height / scale))
        seen, pixels = np.zeros((down, across), int), np.zeros((height, width), int)
        for row in range(-(-down // tile)):
            for column in range(-(-across // tile)):
                box, w, h = zoom.tile_box(width, height, level, column, row, tile, overlap)
                before = min(overlap, column * tile), min(overlap, row * tile)
                x, y = column * tile, row * tile
                own_w, own_h = min(tile, across - x), min(tile, down - y)
                after = min(overlap, across - x - own_w), min(overlap, down - y - own_h)
                assert (w, h) == (own_w + before[0] + after[0], own_h + before[1] + after[1])
                assert (math.ceil(box.width / scale), math.ceil(box.height / scale)) == (w, h)
                assert (box.x0, box.y0) == ((x - before[0]) * scale, (y - before[1]) * scale)
                seen[y : y + own_h, x : x + own_w] += 1
                pixels[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert (seen == 1).all()
        assert (pixels == 1).all() if not overlap else (pixels >= 1).all()


@given(sides, sides, st.integers(-3, 20), st.integers(-3, 20), st.integers(-3, 20))
def test_there_are_no_other_tiles(width: int, height: int, level: int, column: int, row: int) -> None:
    try:
        across, down = zoom.level_size(width, height, level)
    except zoom.BadAddress:
        assert not 0 <= level < zoom.levels(width, height)
        return
    inside = 0 <= column * zoom.TILE < across and 0 <= row * zoom.TILE < down
    if inside:
        assert zoom.tile_box(width, height, level, column, row)[0].area
    else:
        with pytest.raises(zoom.BadAddress):
            zoom.tile_box(width, height, level, column, row)


def test_the_descriptor_says_what_viewers_read() -> None:
    image = ElementTree.fromstring(zoom.descriptor(8192, 4096).encode())
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert image.tag == f"{space}Image"
    assert image.attrib == {"Format": "jpeg", "Overlap": str(zoom.OVERLAP), "TileSize": str(zoom.TILE)}
    size = image.find(f"{space}Size")
    assert size is not None
    assert size.attrib == {"Width": "8192", "Height": "4096"}


# -- IIIF: regions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("full", (0, 200, 0, 300)),
        ("square", (0, 200, 50, 250)),
        ("125,15,120,140", (15, 155, 125, 245)),
        ("125,15,200,200", (15, 200, 125, 300)),
        ("0,0,1,1", (0, 1, 0, 1)),
        ("pct:41.6,7.5,40,70", (15, 155, 124, 245)),
        ("pct:41.6,7.5,66.6,100", (15, 200, 124, 300)),
        ("pct:0,0,100,100", (0, 200, 0, 300)),
        ("pct:.5,0,.5,1", (0, 2, 1, 3)),
    ],
)
def test_regions_are_read_as_specified(text: str, box: tuple[int, int, int, int]) -> None:
    """The examples of section 4.1, and edges."""
    assert zoom.region_of(300, 200, text) == Box(*box)


@pytest.mark.parametrize(
    "text",
    [
        "", "0,0,0,0", "0,0,0,5", "300,0,5,5", "0,200,5,5", "-1,0,5,5", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,0,5,5",
        "pct:0,0,0,5", "pct:100,0,5,5", "pct:-1,0,5,5", "pct:1,2,3", "pct:a,b,c,d", "Full", "full ", "0, 0,5,5",
        "٣,0,5,5", "1e3,0,5,5", "0x1,0,5,5", "pct:1e1,0,5,5", "9999999999999,0,5,5", "pct:nan,0,5,5", "pct:",
    ],
)  # fmt: skip
def test_other_regions_are_refused(text: str) -> None:
    with pytest.raises(zoom.BadAddress, match=r"^region: "):
        zoom.region_of(300, 200, text)


@given(sides, sides, *[st.integers(0, 400)] * 4)
def test_a_region_is_what_of_it_lies_inside(width: int, height: int, x: int, y: int, w: int, h: int) -> None:
    inside = Box(y, y + h, x, x + w).intersect(Box(0, height, 0, width))
    if inside.area:
        assert zoom.region_of(width, height, f"{x},{y},{w},{h}") == inside
    else:
        with pytest.raises(zoom.BadAddress):
            zoom.region_of(width, height, f"{x},{y},{w},{h}")


# -- IIIF: sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("max", (300, 200)),
        ("^max", (300, 200)),
        ("150,", (150, 100)),
        (",150", (225, 150)),
        ("pct:50", (150, 100)),
        ("pct:100", (300, 200)),
        ("225,100", (225, 100)),
        ("!225,100", (150, 100)),
        ("!200,200", (200, 133)),
        ("!300,200", (300, 200)),
        ("^150,", (150, 100)),
        ("^!150,150", (150, 100)),
        ("^pct:50", (150, 100)),
        ("1,", (1, 1)),
        ("pct:0.01", (1, 1)),
    ],
)
def test_sizes_are_read_as_specified(text: str, size: tuple[int, int]) -> None:
    """The examples of section 4.2 that ask for nothing larger, and edges."""
    if text == "^max":
        with pytest.raises(zoom.NotOffered):
            zoom.size_of(300, 200, text)
    else:
        assert zoom.size_of(300, 200, text) == size


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "0,", ",0", "0,0", "301,", ",201", "300,201", "pct:0", "pct:101", "pct:-1", "!0,5", "!5,", "!,5",
        "!400,400", "full", "Max", "a,b", "1.5,", "5,5,5", "pct:a", "pct:", "!", "^", "max^", "5", " 5,", "٣,", "5,\n",
    ],
)  # fmt: skip
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(zoom.BadAddress, match=r"^size: "):
        zoom.size_of(300, 200, text)


@pytest.mark.parametrize("text", ["^max", "^360,", "^,240", "^pct:120", "^360,240", "^!360,360"])
def test_nothing_is_enlarged(text: str) -> None:
    with pytest.raises(zoom.NotOffered):
        zoom.size_of(300, 200, text)


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.sampled_from(["max", "w", "h", "fit", "pct"]), st.data())
def test_no_answer_is_too_large_or_out_of_shape(width: int, height: int, form: str, data: st.DataObject) -> None:
    w, h = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    text = {
        "max": "max",
        "w": f"{w},",
        "h": f",{h}",
        "fit": f"!{w},{h}",
        "pct": f"pct:{data.draw(st.integers(1, 100))}",
    }
    try:
        across, down = zoom.size_of(width, height, text[form])
    except zoom.BadAddress:
        assert form != "max"
        return
    assert 1 <= across <= min(width, zoom.MOST_SIDE)
    assert 1 <= down <= min(height, zoom.MOST_SIDE)
    assert across * down <= zoom.MOST_AREA
    # The region's own shape, as near as whole pixels can be.
    assert abs(across * height - down * width) <= max(width, height) * 1.01 or 1 in (across, down)
    if form == "fit":
        assert across <= w
        assert down <= h


# -- IIIF: the rest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [("0", (False, 0)), ("90", (False, 1)), ("180", (False, 2)), ("270", (False, 3)), ("360", (False, 0)),
     ("!0", (True, 0)), ("!180", (True, 2)), ("90.0", (False, 1))],
)  # fmt: skip
def test_quarter_turns_are_read(text: str, found: tuple[bool, int]) -> None:
    assert zoom.rotation_of(text) == found


@pytest.mark.parametrize("text", ["", "-90", "361", "a", "!", "90!", "!!90", "1e2", "450", "٩٠", "nan"])
def test_other_rotations_are_refused(text: str) -> None:
    with pytest.raises(zoom.BadAddress, match=r"^rotation: "):
        zoom.rotation_of(text)


@pytest.mark.parametrize("text", ["22.5", "!45", "1", "359.9"])
def test_other_angles_are_not_offered(text: str) -> None:
    with pytest.raises(zoom.NotOffered):
        zoom.rotation_of(text)


@pytest.mark.parametrize(
    ("parts", "canonical"),
    [
        (("full", "max", "0", "default", "jpg"), "full/max/0/default.jpg"),
        (("pct:0,0,100,100", "300,", "360", "color", "png"), "full/max/0/default.png"),
        (("0,0,300,200", "150,", "!90", "gray", "webp"), "full/150,100/!90/gray.webp"),
        (("square", "pct:50", "180", "bitonal", "jpg"), "50,0,200,200/100,100/180/bitonal.jpg"),
    ],
)
def test_the_canonical_address(parts: tuple[str, str, str, str, str], canonical: str) -> None:
    """Section 4.7; and it asks for the same."""
    found = zoom.asked(300, 200, *parts)
    assert found.canonical == canonical
    region, size, rotation, last = canonical.split("/")
    again = zoom.asked(300, 200, region, size, rotation, *last.split("."))
    assert again.canonical == canonical
    assert (again.box, again.width, again.height) == (found.box, found.width, found.height)


@pytest.mark.parametrize(
    ("quality", "format", "error"),
    [("colour", "jpg", zoom.BadAddress), ("default", "exe", zoom.BadAddress), ("default", "tif", zoom.NotOffered),
     ("", "jpg", zoom.BadAddress), ("default", "JPG", zoom.BadAddress), ("default", "jp2", zoom.NotOffered)],
)  # fmt: skip
def test_other_qualities_and_formats_are_refused(quality: str, format: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        zoom.asked(300, 200, "full", "max", "0", quality, format)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_what_the_information_offers_can_be_asked_for(width: int, height: int) -> None:
    found = zoom.information("http://here/v1/iiif/a", width, height)
    assert (found["width"], found["height"], found["profile"]) == (width, height, "level2")
    for size in found["sizes"]:
        assert zoom.size_of(width, height, f"{size['width']},{size['height']}") == (size["width"], size["height"])
    (tiles,) = found["tiles"]
    scales = tiles["scaleFactors"]
    assert scales == [2**power for power in range(len(scales))]
    for scale in scales:  # the last tile of each, as viewers ask for it
        step = tiles["width"] * scale
        x, y = (width - 1) // step * step, (height - 1) // step * step
        box = zoom.region_of(width, height, f"{x},{y},{step},{step}")
        assert zoom.size_of(box.width, box.height, f"{math.ceil(box.width / scale)},{math.ceil(box.height / scale)}")
    assert max(width, height) <= tiles["width"] * scales[-1]
