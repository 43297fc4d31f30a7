"""Law 2 under trouble, by strategy: workers are lost, leave and come at any call, and the bits are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from raytile import api
from raytile.plan.request import RenderRequest
from tests.engine.renders import digests, paint, toy_request
from tests.engine.trouble import TroubledPool

SQUARES = [{"name": name, "width": 256, "height": 256} for name in "ab"]
SEAMS = [{"one": ["a.right", "b.top"], "other": ["a.left", "b.bottom"]}]
NAMES = ("skip", "dilated", "pixels", "cube", "sphere", "tileset", "scene", "upscale", "repaint", "extend")


class Calm:
    """Requests, and the digests of their undisturbed renders, each found once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: dict[str, tuple[str, str]] = {}
        self._before = paint(toy_request(width=256, height=256, steps=2, levels=1, tile=128), folder / "was.zarr")[0]
        rows, columns = np.mgrid[0:128, 0:128]
        self._picture = folder / "was.png"
        Image.fromarray(np.stack([rows * 2, columns * 2, rows + columns], -1).astype(np.uint8)).save(self._picture)

    def wish(self, name: str) -> RenderRequest:
        canvas, picture = {"path": str(self._before.path)}, {"path": str(self._picture)}
        box = {"box": (30, 40, 150, 130), "feather": 20}
        levels = {"levels": 2, "skip_residual": True}
        wishes: dict[str, dict[str, Any]] = {
            "skip": {"height": 320, **levels, "renoise": 1.0, "sampler": "dpmpp_2m"},
            "dilated": {"levels": 2, "dilated": True},
            "pixels": {"levels": 2, "enlarge": "pixels", "skip_residual": True, "wrap": "x", "sync": "overlap"},
            "cube": {"width": 768, "height": 512, "topology": "cube", **levels},
            "sphere": {"width": 512, "topology": "equirectangular", "sampler": "euler_ancestral", "sync": "overlap"},
            "tileset": {"tileset": {"pictures": SQUARES, "seams": SEAMS}, "height": 512},
            "scene": {"regions": [{"prompt": "sea", **box}, {"prompt": "ice", "mask": picture}]},
            "upscale": {"source": picture, "match_colour": True, **levels, "control": picture},
            "repaint": {"source": canvas, "repaint": [box, {"mask": picture}]},
            "extend": {"source": canvas, "height": 384, "place": (0, 64)},
        }
        return toy_request(**{"width": 256, "height": 256, "tile": 128, "steps": 4, **wishes[name]})

    def digests(self, name: str) -> tuple[str, str]:
        if name not in self._found:
            self._found[name] = digests(paint(self.wish(name), self.folder / f"{name}.zarr")[1])
        return self._found[name]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return Calm(tmp_path_factory.mktemp("calm"))


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_happens_the_bits_are_the_same(
    name: str, data: st.DataObject, calm: Calm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workers = data.draw(st.integers(2, 3))
    moments = st.integers(workers, 50)
    lose = data.draw(st.dictionaries(moments, st.integers(0, workers), min_size=1, max_size=2))
    leave = data.draw(st.dictionaries(moments, st.integers(0, workers), max_size=1))
    arrive = data.draw(st.dictionaries(moments, st.just(1), max_size=1))
    arrive[61] = len(lose) + len(leave)
    pool = TroubledPool(workers, lose=lose, leave=leave, arrive=arrive, ahead=data.draw(st.integers(1, 3)))
    out = tmp_path_factory.mktemp("troubled") / "a.zarr"
    canvas = api.render(calm.wish(name), out, pool=pool, snapshot_every=data.draw(st.sampled_from([1, 2, None])))
    summary = canvas.head().summary
    assert summary is not None
    assert digests(summary) == calm.digests(name)
