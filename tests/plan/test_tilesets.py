"""Tilesets: where pictures lie, what files say, and which atlas a request asks for."""

from __future__ import annotations

import json
from itertools import product
from math import isqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.errors import InvalidRequest
from raytile.geometry.axis import Axis
from raytile.geometry.forms import cube, equirectangular
from raytile.geometry.tiling import Tiling
from raytile.plan.plan import Begins, Level
from raytile.plan.request import RenderRequest
from raytile.plan.scene import TilePicture, TileSeam, Tileset
from raytile.plan.tilesets import atlas_of, canvas_size, layout, parse_tileset, read_tileset, size

SIDES = ("top", "right", "bottom", "left")


def wang(colours: int, pixels: int = 64) -> dict[str, object]:
    """The complete Wang set of so many colours."""
    tiles = [
        {"name": f"w{number}", **dict(zip(SIDES, chosen, strict=True))}
        for number, chosen in enumerate(product(range(colours), repeat=4))
    ]
    return {"size": pixels, "tiles": tiles}


def pictures(*sizes: tuple[int, int]) -> Tileset:
    return Tileset(pictures=tuple(TilePicture(name=f"p{k}", width=w, height=h) for k, (w, h) in enumerate(sizes)))


def request(tileset: Tileset | None = None, **wishes: object) -> RenderRequest:
    return RenderRequest.parse(**{"prompt": "", "width": 64, "height": 64, "tileset": tileset, **wishes})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20), st.integers(1, 8))
def test_pictures_lie_apart_on_the_canvas_in_steps_of_a_cell(sizes: list[tuple[int, int]], factor: int) -> None:
    tileset = pictures(*((w * factor, h * factor) for w, h in sizes))
    boxes = layout(tileset, factor)
    assert boxes == layout(tileset, factor)
    assert [(box.width, box.height) for box in boxes] == [(w * factor, h * factor) for w, h in sizes]
    assert all(edge % factor == 0 for box in boxes for edge in box)
    assert not any(a.intersect(b).area for k, a in enumerate(boxes) for b in boxes[:k])
    width, height = canvas_size(tileset, factor)
    assert all(box.y0 >= 0 and box.y1 <= height and box.x0 >= 0 and box.x1 <= width for box in boxes)


@settings(deadline=None)
@given(st.integers(1, 200))
def test_squares_of_one_size_lie_as_compactly_as_squares_can(count: int) -> None:
    across, down = canvas_size(pictures(*((8, 8),) * count), 8)
    assert across + down == 8 * (isqrt(4 * count - 1) + 1)  # least half way round: twice the root, rounded up
    assert across * down - count * 64 < 8 * across


def test_sixteen_squares_lie_four_by_four() -> None:
    assert canvas_size(pictures(*((256, 256),) * 16), 8) == (1024, 1024)


@settings(deadline=None)
@given(st.integers(1, 3))
def test_a_wang_set_joins_right_to_left_and_bottom_to_top_by_colour(colours: int) -> None:
    tileset = parse_tileset(wang(colours))
    tiles = {tile["name"]: tile for tile in wang(colours)["tiles"]}  # type: ignore[attr-defined]
    assert len(tileset.seams) == 2 * colours
    named = [side for seam in tileset.seams for side in (*seam.one, *seam.other)]
    assert len(named) == len(set(named)) == 4 * colours**4
    for seam in tileset.seams:
        ones, others = (
            {(side.split(".")[1], tiles[side.split(".")[0]][side.split(".")[1]]) for side in sides}
            for sides in (seam.one, seam.other)
        )
        ((one, colour),), ((other, same),) = ones, others
        assert (one, other) in (("right", "left"), ("bottom", "top"))
        assert colour == same


def test_what_nothing_matches_stays_free_and_colours_may_be_words_or_numbers() -> None:
    tiles = [{"name": "a", "right": "red", "left": 1, "top": 3}, {"name": "b", "left": "red", "right": "1"}]
    tileset = parse_tileset({"tiles": [{**tiles[0], "size": [64, 32]}, {**tiles[1], "width": 32, "height": 32}]})
    assert [(p.width, p.height) for p in tileset.pictures] == [(64, 32), (32, 32)]
    assert {(seam.one, seam.other) for seam in tileset.seams} == {
        (("a.right",), ("b.left",)),
        (("b.right",), ("a.left",)),
    }


def test_a_file_of_either_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(wang(2)))
    assert read_tileset(path) == parse_tileset(wang(2))
    own = Tileset(
        pictures=(TilePicture(name="a", width=64, height=64),),
        seams=(TileSeam(one=("a.right",), other=("a.top",), mirrored=True),),
    )
    path.write_text(own.model_dump_json())
    assert read_tileset(str(path)) == own


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], 'either "pictures"'),
        ({"tiles": [], "pictures": []}, 'either "pictures"'),
        ({"tiles": []}, r"tileset\.tiles: "),
        ({"tiles": [{"name": "a"}]}, r"tileset\.tiles\.0\.size: missing"),
        ({"tiles": [{"name": "a", "size": 64, "colour": 1}]}, r"tileset\.tiles\.0\.colour: "),
        ({"tiles": [{"name": "a b", "size": 64}]}, r"tileset\.tiles\.0\.name: "),
        ({"tiles": [{"name": "a", "size": 10**6}]}, r"tileset\.pictures\.0\.width: "),
        (
            {"size": 64, "tiles": [{"top": 1.5}]},
            r"tileset\.tiles\.0\.top: a colour is a word or a whole number \(got 1\.5",
        ),
        ({"size": 64, "tiles": [{"name": "a"}, {"name": "a"}]}, "'a' is taken"),
        ({"pictures": [{"name": "a", "width": 0, "height": 64}]}, r"tileset\.pictures\.0\.width: "),
        (
            {"tiles": [{"name": "a", "size": 64, "right": 1}, {"name": "b", "size": 32, "left": 1}]},
            r"a\.right, b\.left are of different lengths",
        ),
    ],
)
def test_what_a_file_has_wrong_is_said_in_one_line(data: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        parse_tileset(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("a.right", "b.left", r"seams\.0\.other: 'b\.left' names no picture.*a\.right"),
        ("a.east", "a.left", r"seams\.0\.one: 'a\.east' names no side.*right, top, left, bottom"),
        ("right", "a.left", r"names no picture"),
    ],
)
def test_seams_name_a_picture_and_a_side(one: str, other: str, words: str) -> None:
    picture = {"name": "a", "width": 64, "height": 64}
    with pytest.raises(InvalidRequest, match=words):
        parse_tileset({"pictures": [picture], "seams": [{"one": [one], "other": [other]}]})


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read .*none\.json"):
        read_tileset(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InvalidRequest, match=r"bad\.json is not JSON"):
        read_tileset(tmp_path / "bad.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InvalidRequest, match=r"deep\.json is not JSON"):
        read_tileset(tmp_path / "deep.json")


def test_sizes_off_the_factor_are_refused_with_one_that_fits() -> None:
    with pytest.raises(InvalidRequest, match=r"pictures\.1\.height: must be a multiple of 8 pixels, such as 64"):
        layout(pictures((64, 64), (64, 62)), 8)


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([4, 8]), st.sampled_from([1, 2]))
def test_spheres_have_the_atlas_of_their_size(cells: int, factor: int, divisor: int) -> None:
    even = cells * divisor
    assert atlas_of(request(width=factor, height=factor), factor, (1, 1)) is None
    box = request(topology="cube", width=3 * even * factor, height=2 * even * factor)
    assert size(box, factor) == (box.width, box.height)
    found = atlas_of(box, factor, (2 * cells, 3 * cells))
    assert found is not None
    assert (found.faces, found.joins) == (cube(cells).faces, cube(cells).joins)
    globe = request(topology="equirectangular", width=2 * even * factor, height=even * factor)
    assert size(globe, factor) == (globe.width, globe.height)
    found, same = atlas_of(globe, factor, (cells, 2 * cells)), equirectangular(cells, 2 * cells)
    assert found is not None
    assert (found.faces, found.joins) == (same.faces, same.joins)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["cube", "equirectangular"]))
def test_another_size_is_refused_with_one_that_fits(width: int, height: int, form: str) -> None:
    wish = request(topology=form, width=width, height=height)
    fits = size(wish, 8)
    if fits != (width, height):
        with pytest.raises(InvalidRequest, match=rf"such as {fits[0]}x{fits[1]} pixels \(got {width}x{height}\)"):
            atlas_of(wish, 8, (1, 1))
    again = request(topology=form, width=fits[0], height=fits[1])
    assert size(again, 8) == fits
    assert atlas_of(again, 8, (fits[1] // 8, fits[0] // 8)) is not None


def test_a_tileset_has_the_faces_of_its_layout_at_every_level() -> None:
    tileset = parse_tileset(wang(2, 128))
    width, height = canvas_size(tileset, 8)
    wish = request(tileset, width=width, height=height)
    fine, coarse = (atlas_of(wish, 8, (height // 8 // k, width // 8 // k)) for k in (1, 2))
    assert fine is not None
    assert fine.scaled(2) == coarse
    assert [face.box for face in fine.faces] == [type(box)(*(edge // 8 for edge in box)) for box in layout(tileset, 8)]
    with pytest.raises(InvalidRequest, match=f"these pictures take {width}x{height} pixels"):
        atlas_of(request(tileset), 8, (8, 8))
    with pytest.raises(InvalidRequest, match="no whole part"):
        atlas_of(wish, 8, (height // 8 - 1, width // 8))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.sampled_from(["noise", "level", "clean"]))
def test_shared_strips_only_ever_become_shallower(steps: int, levels: int, begins: Begins) -> None:
    """From four times as deep as at last, where a level begins with noise; they do not move where it does not."""
    tileset = parse_tileset(wang(2, 32 * 8 * 2 ** (levels - 1)))
    width, height = canvas_size(tileset, 8)
    found = atlas_of(request(tileset, width=width, height=height), 8, (height // 8, width // 8))
    assert found is not None
    flat = Tiling(Axis(height // 8, 64, wrap=False), Axis(width // 8, 64, wrap=False))
    level = Level(0, flat, 2, 2 + steps, (), begins, found)
    joined = [level.joined(step) for step in range(2, 2 + steps)]
    depths = [one.strip for one in joined if one is not None]
    assert len(depths) == steps
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] == found.strip
    assert depths[0] == (4 * found.strip if begins == "noise" and steps > 1 else found.strip)
