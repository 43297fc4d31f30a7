"""Every way to paint with every other: refused in one line before any work, or the same picture for any number of
workers, at the cost that was foretold."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raytile.api import plan
from raytile.errors import InvalidRequest
from raytile.events import Event, Regrouped
from raytile.models.toy import toy_spec
from raytile.plan.cost import foretell
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition
from raytile.plan.settle import make_plan
from tests.engine.renders import digests, paint, toy_request

Row = tuple[str, str, str, str]

TWO_SQUARES = [{"name": name, "width": 256, "height": 256} for name in "ab"]
METHODS: dict[str, dict[str, Any]] = {
    "shift": {"levels": 1},
    "overlap": {"levels": 1, "sync": "overlap"},
    "cascade": {"levels": 2},
    "skip": {"levels": 2, "skip_residual": True, "renoise": 1.0, "sampler": "dpmpp_2m"},
    "pixels": {"levels": 2, "enlarge": "pixels"},
    "dilated": {"levels": 2, "dilated": True, "sync": "overlap"},
}
SIDES: dict[str, dict[str, Any]] = {
    "plane": {"width": 297, "height": 261},
    "wrap x": {"width": 272, "height": 261, "wrap": "x"},
    "wrap xy": {"width": 272, "height": 264, "wrap": "xy"},
    "equirectangular": {"width": 512, "height": 256, "topology": "equirectangular"},
    "cube": {"width": 384, "height": 256, "topology": "cube"},
    "one to one": {
        "width": 256,
        "height": 512,
        "tileset": {"pictures": TWO_SQUARES, "seams": [{"one": ["a.right"], "other": ["b.top"]}]},
    },
    "many to many": {
        "width": 256,
        "height": 512,
        "tileset": {
            "pictures": TWO_SQUARES,
            "seams": [
                {"one": ["a.right", "b.right"], "other": ["a.left", "b.left"]},
                {"one": ["a.bottom", "b.bottom"], "other": ["a.top", "b.top"]},
            ],
        },
    },
}
WORDS = ("plain", "scene")
STARTS = ("text", "image", "upscale", "repaint", "extend", "control")
CLOSED = ("equirectangular", "cube", "one to one", "many to many")


def refused(row: Row) -> str | None:
    """How the one line begins that says why a combination makes no sense."""
    method, sides, words, start = row
    closed = sides in CLOSED
    reasons = {
        "dilated: thinned-out windows know no seams": closed and method == "dilated",
        "enlarge: pixels know no seams": closed and method == "pixels",
        "place: ": closed and start == "extend",
        "regions: thinned-out windows": method == "dilated" and words == "scene",
        "control: thinned-out windows": method == "dilated" and start == "control",
        "levels: ": METHODS[method]["levels"] == 2 and start in ("repaint", "extend"),
    }
    return next((line for line, holds in reasons.items() if holds), None)


ALL: list[Row] = list(product(METHODS, SIDES, WORDS, STARTS))


def pairs(row: Row) -> set[tuple[int, str, int, str]]:
    return {(i, row[i], j, row[j]) for i, j in combinations(range(4), 2)}


def covering(rows: Iterable[Row]) -> list[Row]:
    """Few of `rows` that show every pair that any of them shows; greedy, so in a fixed order."""
    left = {row: pairs(row) for row in rows}
    wanted = set().union(*left.values())
    chosen = []
    while wanted:
        best = max(left, key=lambda row: len(left[row] & wanted))
        chosen.append(best)
        wanted -= left[best]
    return chosen


class Pictures:
    """Pictures to start from, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, width: int, height: int, grey: bool = False) -> str:
        """Soft colours with a sharp edge; a mask with `grey`."""
        path = self.folder / f"{width}x{height}{'m' if grey else ''}.png"
        if not path.exists():
            y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
            channels = [x * 255, y * 255, np.where((x - y) ** 2 < 0.1, 220, 30)]
            Image.fromarray((channels[2] if grey else np.stack(channels, -1)).astype(np.uint8)).save(path)
        return str(path)

    def canvas(self, **wish: Any) -> str:
        """A finished canvas."""
        name = "-".join(f"{value}" for key, value in wish.items() if key != "tileset")
        path = self.folder / f"{name}-{'many' if len((wish.get('tileset') or {}).get('seams', ())) > 1 else ''}.zarr"
        if not path.exists():
            paint(toy_request(**{"tile": 128, "steps": 2, "levels": 1, **wish}), path)
        return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return Pictures(tmp_path_factory.mktemp("pictures"))


def wish(row: Row, pictures: Pictures) -> RenderRequest:
    method, sides, words, start = row
    values = {"steps": 3, "tile": 128, **SIDES[sides], **METHODS[method]}
    if sides == "cube" and values["levels"] == 2:
        values |= {"width": 768, "height": 512}
    width, height = values["width"], values["height"]
    if words == "scene":
        values["regions"] = [
            {"prompt": "sand", "box": [20, 30, width, 60], "feather": 24, "negative": "ice", "guidance": 3.0},
            {"prompt": "sea", "polygon": [[0, 0], [width / 2, height / 3], [9, height]], "seed": 8, "weight": 2.0},
            {"prompt": "ice", "mask": {"path": pictures.file(90, 80, grey=True)}},
        ]
    if start == "image":
        values |= {"source": {"path": pictures.file(width, height)}, "strength": 0.7}
    elif start == "upscale":
        values |= {"source": {"path": pictures.file(-(-width // 2), -(-height // 2))}, "match_colour": True}
    elif start == "repaint":
        source = pictures.canvas(**{**SIDES[sides], "width": width, "height": height})
        values |= {"source": {"path": source}, "repaint": [{"box": [70, 60, 80, 100], "feather": 20}]}
    elif start == "extend":
        values |= {"source": {"path": pictures.canvas(width=200, height=200)}, "place": (64, 0)}
    elif start == "control":
        values["control"] = {"path": pictures.file(90, 80, grey=True)}
    return toy_request(**values)


class Names(Pictures):
    """The same, but nothing is there."""

    def file(self, width: int, height: int, grey: bool = False) -> str:
        return f"{width}x{height}{grey}.png"

    def canvas(self, **wish: Any) -> str:  # noqa: ARG002
        return "before.zarr"


@pytest.mark.parametrize("method", METHODS)
def test_every_combination_is_planned_or_refused_in_one_line(method: str, tmp_path: Path) -> None:
    for row in ALL:
        why = refused(row)
        if row[0] != method:
            continue
        if why is None:
            make_plan(_sized(wish(row, Names(tmp_path))), toy_spec())
            continue
        with pytest.raises(InvalidRequest) as caught:
            make_plan(_sized(wish(row, Names(tmp_path))), toy_spec())
        text = str(caught.value)
        assert text.startswith(why), (row, text)
        assert "\n" not in text


def _sized(request: RenderRequest) -> RenderRequest:
    """With the size of its source, as if that had been looked at."""
    if request.source is None:
        return request
    size = (200, 200) if request.place is not None else (request.width, request.height)
    return request.model_copy(update={"source": request.source.model_copy(update={"size": size})})


def _regrouped(event: Event) -> list[Event]:
    return [event] if isinstance(event, Regrouped) else []


@pytest.mark.parametrize("row", covering(row for row in ALL if refused(row) is None), ids=", ".join)
def test_a_strategy_gives_the_same_picture_for_any_number_of_workers(
    row: Row, pictures: Pictures, tmp_path: Path
) -> None:
    request = wish(row, pictures)
    alone, one = paint(request, tmp_path / "one.zarr")
    anew: list[Event] = []
    together, many = paint(request, tmp_path / "many.zarr", 3, lambda event: anew.extend(_regrouped(event)))
    assert digests(one) == digests(many)
    settled = plan(request)
    for summary, workers in ((one, 1), (many, 3)):
        cost = foretell(settled, Partition.even(workers))
        assert summary["evaluations"] == summary["evaluations_planned"] == cost.evaluations
        assert summary["bytes_exchanged"] == summary["bytes_planned"]
        assert anew or summary["bytes_planned"] == cost.bytes  # unless work was dealt anew, by measured speed
    assert one["bytes_exchanged"] == 0 < many["bytes_exchanged"]
    assert np.isfinite(together.latents[...]).all()
    layout = together.layout
    shown = [together.read_image(layout.pixels(tile)) for tile in range(layout.tiles)]
    assert all(min(part.std() for part in pixels) > 1 for pixels in shown)
    assert np.array_equal(alone.image[...], together.image[...])
