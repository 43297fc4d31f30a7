"""Laws of scenes, played out by the toy model: a region speaks in its place and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raytile.api import plan
from raytile.engine.survey import Survey
from tests.engine.renders import digests, paint, toy_request

SIDE = 384
REACH = 3  # cells that the toy's network sees to each side, a step


def scene(tmp_path: Path, name: str, *regions: dict[str, Any], **more: Any) -> NDArray[np.float32]:
    """The final latents under some regions."""
    values = {"width": SIDE, "height": 256, "steps": 3, "levels": 1, "tile": 128, **more}
    canvas, _ = paint(toy_request(**values, regions=list(regions)), tmp_path / f"{name}.zarr")
    latents: NDArray[np.float32] = canvas.latents[...]
    return latents


@pytest.mark.parametrize("sync", ["shift", "overlap"])
def test_a_region_over_everything_is_the_base_prompt(tmp_path: Path, sync: str) -> None:
    everywhere = {"box": [-50, -50, 1000, 1000], "prompt": "sea", "negative": "ice", "guidance": 3.0}
    said = scene(tmp_path, "a", everywhere, sync=sync)
    base = scene(tmp_path, "b", prompt="sea", negative="ice", guidance=3.0, sync=sync)
    assert np.array_equal(said, base)


def test_a_region_that_says_what_the_base_says_changes_nothing(tmp_path: Path) -> None:
    echo = scene(tmp_path, "a", {"box": [40, 60, 200, 90], "prompt": "hello", "feather": 30})
    assert np.allclose(echo, scene(tmp_path, "b"), atol=1e-4)


@pytest.mark.parametrize("region", ["box", "polygon", "mask", "seed"])
def test_a_region_changes_no_bit_that_is_far_away(tmp_path: Path, region: str) -> None:
    """Nor does it leave what it covers as it was. Far: farther than the network sees in all steps together."""
    mask = np.zeros((256, SIDE), np.uint8)
    mask[32:128, 32:128] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    shapes: dict[str, dict[str, Any]] = {
        "box": {"box": [32, 32, 96, 96], "feather": 16},
        "polygon": {"polygon": [[32, 32], [128, 40], [60, 128]], "feather": 16},
        "mask": {"mask": {"path": str(tmp_path / "mask.png")}},
        "seed": {"box": [32, 32, 96, 96], "seed": 99},
    }
    with_it = scene(tmp_path, "a", {"prompt": "hello" if region == "seed" else "sand", **shapes[region]})
    without = scene(tmp_path, "b")
    changed = (with_it != without).any(axis=0)
    far = 17 + 3 * REACH  # 136 pixels are where the feather ends
    assert not changed[far:].any()
    assert not changed[:, far:].any()
    assert changed[7:12, 7:12].all()


def test_a_box_over_the_wrapped_side_is_two_boxes(tmp_path: Path) -> None:
    one = scene(tmp_path, "a", {"box": [SIDE - 80, 40, 200, 120], "prompt": "sand"}, wrap="x")
    two = [{"box": [SIDE - 80, 40, 80, 120], "prompt": "sand"}, {"box": [0, 40, 120, 120], "prompt": "sand"}]
    assert np.allclose(one, scene(tmp_path, "b", *two, wrap="x"), atol=1e-4)
    begun_before = {"box": [-80, 40, 200, 120], "prompt": "sand"}
    assert np.array_equal(one, scene(tmp_path, "c", begun_before, wrap="x"))


def test_a_polygon_and_a_mask_of_a_box_are_that_box(tmp_path: Path) -> None:
    mask = np.zeros((256, SIDE), np.uint8)
    mask[64:160, 48:200] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    box = scene(tmp_path, "a", {"box": [48, 64, 152, 96], "prompt": "sand"})
    corners = [[48, 64], [200, 64], [200, 160], [48, 160]]
    assert np.array_equal(box, scene(tmp_path, "b", {"polygon": corners, "prompt": "sand"}))
    assert np.allclose(box, scene(tmp_path, "c", {"mask": {"path": str(tmp_path / "mask.png")}, "prompt": "sand"}))


def test_a_finer_level_hears_the_same_scene() -> None:
    """Regions are in pixels of the finished picture, whatever the level."""
    region = {"box": [-50, -50, 600, 178], "prompt": "sand", "feather": 16}
    request = toy_request(width=SIDE, height=256, levels=2, tile=128, regions=[region])
    settled = plan(request)
    survey = Survey(settled, None)
    fine, coarse = (survey.shares(k, _all(settled.levels[k].tiling), np.array([True, True]))[1] for k in (1, 0))
    means = fine.reshape(coarse.shape[0], 2, coarse.shape[1], 2).mean(dim=(1, 3))
    assert np.allclose(means, coarse, atol=0.26)  # a step of half a feather within a coarse cell
    assert np.allclose(means.mean(), coarse.mean(), atol=0.01)


def test_another_weight_is_another_picture_only_where_regions_overlap(tmp_path: Path) -> None:
    alone = [scene(tmp_path, f"{w}", {"box": [32, 32, 96, 96], "prompt": "sand", "weight": w}) for w in (1.0, 5.0)]
    assert np.array_equal(*alone)
    over = {"box": [64, 32, 96, 96], "prompt": "ice"}
    both = [
        scene(tmp_path, f"{w}both", {"box": [32, 32, 96, 96], "prompt": "sand", "weight": w}, over) for w in (1.0, 5.0)
    ]
    assert not np.array_equal(*both)


def test_the_order_of_rows_decides_nothing(tmp_path: Path) -> None:
    """Three regions on one window ask it often; three workers give the picture of one."""
    regions = [
        {"box": [0, 0, 200, 256], "prompt": "sand", "negative": "ice"},
        {"box": [100, 0, 200, 256], "prompt": "ice", "guidance": 1.0},
        {"polygon": [[0, 0], [380, 128], [0, 256]], "prompt": "sea", "guidance": 6.0, "weight": 3.0},
    ]
    request = toy_request(width=SIDE, height=256, steps=3, levels=1, tile=128, micro_batch=3, regions=regions)
    found = {digests(paint(request, tmp_path / f"{n}.zarr", n)[1]) for n in (1, 2, 3)}
    assert len(found) == 1


def _all(tiling: Any) -> Any:
    return tiling.patch(0, 0, tiling.y.cells, tiling.x.cells)
