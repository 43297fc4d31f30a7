"""What makes no sense is refused in one line that names the field and the way out; the way out is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.errors import InvalidRequest
from raytile.models.toy import toy_spec
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.settle import make_plan
from raytile.plan.spec import ModelSpec

SEAMS = {"pictures": [{"name": "a", "width": 256, "height": 256}], "seams": [{"one": ["a.right"], "other": ["a.left"]}]}
CUBE = {"topology": "cube", "width": 768, "height": 512}
TILESET = {"tileset": SEAMS, "width": 256, "height": 256}
ALIKE = {
    "tileset": {
        "pictures": [{"name": name, "width": 256, "height": 256} for name in "ab"],
        "seams": [{"one": ["a.right", "b.right"], "other": ["a.left", "b.left"]}],
    },
    "width": 256,
    "height": 512,
}
BOX = {"box": (0, 0, 64, 64)}


def settle(spec: ModelSpec | None = None, **wish: Any) -> Plan:
    return make_plan(RenderRequest.parse(**{"prompt": "", "width": 512, "height": 256, **wish}), spec or toy_spec())


def picture(width: int, height: int) -> dict[str, Any]:
    return {"path": "a.zarr", "sha256": "0" * 64, "size": (width, height)}


MASKED = {"prompt": "", "mask": picture(9, 9)}
BEYOND = {"prompt": "", "polygon": [(0, 300), (9, 300), (9, 400)]}
SAME = picture(512, 256)
SMALL = picture(256, 128)
REFUSED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    # how sides meet
    ({**TILESET, "topology": "cube"}, "topology: .* leave the topology out", {"topology": "flat"}),
    ({**CUBE, "wrap": "x"}, "wrap: cube .* leave wrap out", {"wrap": "none"}),
    ({**TILESET, "wrap": "x"}, "wrap: a tileset .* leave wrap out", {"wrap": "none"}),
    ({**CUBE, "levels": 2, "dilated": True}, "dilated: .* cube: leave it out", {"dilated": False}),
    ({**CUBE, "levels": 2, "enlarge": "pixels"}, "enlarge: .* cube: enlarge latents", {"enlarge": "latents"}),
    (
        {**CUBE, "source": SAME, "place": (0, 0)},
        "place: cube cannot grow: .* flat",
        {"place": None, **CUBE, "source": picture(768, 512)},
    ),
    ({**CUBE, "width": 769}, "size: cube takes 3 x 2 .* 768x512", {"width": 768}),
    ({"topology": "equirectangular", "width": 520}, "size: equirectangular takes .* 512x256", {"width": 512}),
    ({**TILESET, "width": 264}, "size: these pictures take 256x256", {"width": 256}),
    ({"width": 509, "wrap": "x"}, "width: .* multiple of 8 pixels: 504 or 512", {"width": 504}),
    ({"height": 3, "wrap": "y"}, "height: .* multiple of 8 pixels: 8", {"height": 8}),
    # thinned-out windows
    (
        {"levels": 2, "dilated": True, "regions": [{"prompt": "", **BOX}]},
        "regions: .* leave regions or dilated out",
        {"regions": []},
    ),
    ({"levels": 2, "dilated": True, "control": SAME}, "control: .* leave control or dilated out", {"dilated": False}),
    # what a picture to begin with is for
    ({"strength": 0.5}, "strength: there is no source .* leave it out", {"strength": None}),
    ({"repaint": [BOX]}, "repaint: there is no source .* give one", {"source": SAME}),
    ({"place": (0, 0)}, "place: there is no source", {"source": SMALL}),
    ({"match_colour": True}, "match_colour: there is no source", {"source": SMALL}),
    ({"source": SAME, "repaint": [BOX], "place": (0, 0)}, "repaint: .* one after the other", {"place": None}),
    ({"source": SAME, "repaint": [BOX], "levels": 2}, "levels: repaint .* leave it out", {"levels": "auto"}),
    ({"source": SMALL, "place": (0, 0), "levels": 2}, "levels: place .* leave it out", {"levels": 1}),
    (
        {"source": SAME, "repaint": [BOX], "match_colour": True},
        "match_colour: .* leave it out",
        {"match_colour": False},
    ),
    ({"source": SMALL, "place": (4, 0)}, r"place: .* multiples of 8 pixels \(got 4,0\)", {"place": (8, 0)}),
    ({"source": SMALL, "place": (264, 0)}, "place: .* 256x128 does not lie inside at 264,0", {"place": (256, 0)}),
    ({"source": SMALL, "place": (0, -8)}, "place: .* does not lie inside at 0,-8", {"place": (0, 8)}),
    ({"source": SAME, "place": (0, 0)}, "place: .* nothing is left to paint", {"height": 512}),
    ({"source": picture(250, 256), "place": (0, 0)}, "place: .* end on a multiple of 8", {"source": picture(248, 256)}),
    (
        {"source": picture(512, 250), "place": (0, 0)},
        "place: .* end on a multiple of 8",
        {"height": 250, "width": 1024},
    ),
    (
        {"source": SMALL, "repaint": [BOX]},
        "repaint: the canvas is 256x128: width and height must be the same",
        {"source": SAME},
    ),
    ({"source": picture(256, 256)}, "source: it is 256x256, .* such as 512x512", {"height": 512}),
    (
        {**ALIKE, "source": picture(256, 512), "repaint": [{"box": (200, 60, 50, 50)}]},
        "repaint: .* side that others are like: stay .* pixels away",
        {"repaint": [{"box": (100, 60, 50, 50)}]},
    ),
    # shapes
    ({"regions": [{**MASKED, "feather": 3}]}, "regions.0.feather: .* leave feather out", {"regions": [MASKED]}),
    ({"regions": [{"prompt": "", "box": (600, 0, 5, 5)}]}, "regions.0: lies wholly outside .* 512x256", {"width": 640}),
    ({"source": SAME, "repaint": [BOX, {"box": (0, -9, 5, 5)}]}, "repaint.1: lies wholly outside", {"repaint": [BOX]}),
    ({"regions": [BEYOND]}, "regions.0: lies wholly outside", {"height": 512}),
    (
        {"regions": [{"prompt": "", "polygon": [(0, 0), (9, 0), (9, 9)] * 2300}] * 3},
        "regions: 20700 corners in all, at most 20000: use masks",
        {"regions": []},
    ),
    ({**CUBE, "width": 192, "height": 128}, "size: picture .* of 64x64 pixels .* at least 128 a side", CUBE),
    # levels
    ({"levels": 3}, "levels: this size has room for 2", {"levels": 2}),
    ({**CUBE, "levels": 3}, "levels: this size has room for 2", {"levels": 2}),
    ({"levels": 1, "renoise": 0.5}, "renoise: .* one level: leave it out, or ask for more levels", {"levels": 2}),
    ({"levels": 1, "skip_residual": True}, "skip_residual: .* one level", {"levels": 2}),
    ({"levels": 1, "dilated": True}, "dilated: .* one level", {"levels": 2}),
    ({"levels": 1, "enlarge": "pixels"}, "enlarge: .* one level", {"levels": 2}),
    # what a model cannot
    ({"guidance_interval": (0.5, 0.5)}, "guidance_interval: .* two rising shares", {"guidance_interval": (0.5, 1.0)}),
    ({"sampler": "flow"}, "sampler: 'flow' .* choose from .*ddim", {"sampler": "ddim"}),
    ({"tile": 100}, "tile: .* multiple of .* 128 pixels, such as 128", {"tile": 128}),
    ({"width": 2**15, "tile": 2**15}, "tile: at most 8192 pixels", {"tile": 8192}),
]


@pytest.mark.parametrize(
    ("wish", "line", "way_out"), REFUSED, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_it_is_refused_in_one_line_whose_way_out_is_open(
    wish: dict[str, Any], line: str, way_out: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match=f"^({line})") as caught:
        settle(**wish)
    assert "\n" not in str(caught.value)
    settle(**{**wish, **way_out})


def test_a_model_without_control_takes_none() -> None:
    with pytest.raises(InvalidRequest, match=r"^control: model toy takes none: leave it out, or use terra"):
        settle(replace(toy_spec(), control=""), control=SAME)


@given(st.integers(100, 2000), st.integers(100, 2000), st.integers(100, 2000))
def test_a_source_of_another_shape_is_told_a_size_that_fits(width: int, height: int, wide: int) -> None:
    try:
        settle(source=picture(width, height), width=wide, height=2100)
    except InvalidRequest as error:
        told = str(error).rpartition(" ")[2]
        fit = [int(side) for side in told.split("x")]
        settle(source=picture(width, height), width=fit[0], height=fit[1])


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ({}, "one of box, polygon and mask"),
        ({"box": (0, 0, 8, 8), "polygon": [(0, 0), (1, 1), (0, 1)]}, "one of box, polygon and mask"),
        ({"box": (0, 0, 0, 8)}, "greater than 0"),
        ({"polygon": [(0, 0), (1, 1)]}, "at least 3"),
        ({"box": (0, 0, 8, float("nan"))}, "finite"),
        ({"box": (0, 0, 8, 8), "feather": -1}, "greater than or equal to 0"),
        ({"box": (0, 0, 8, 8), "wieght": 1}, "wieght|Extra"),
    ],
)
def test_a_shape_is_one_shape(shape: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidRequest, match=f"regions.0.*({line})") as caught:
        settle(regions=[{"prompt": "", **shape}])
    assert "\n" not in str(caught.value)
