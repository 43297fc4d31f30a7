"""The lead of a finer level by the one before, against DemoFusion: shares, windows, filter, and a whole phase."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from raytile.engine.beginning import Beginning
from raytile.geometry.atlas import Atlas, Face
from raytile.geometry.axis import Axis, strided_origins
from raytile.geometry.box import Box
from raytile.geometry.tiling import Tiling
from raytile.plan.atlas_windows import AtlasWindows
from raytile.plan.cascade import blur, dilated_weight, skip_weight
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.sync.dilate import Spread, gaussian, merge, renormalise
from tests.engine.renders import paint
from tests.oracles.figures import Array, reached, recorded
from tests.oracles.tiny import GUIDANCE, NEGATIVE, PROMPT, SEED, start_noise, weights_sum

WINDOW, STRIDE, SCALE, SIGMA, TIMES = 16, 8, 2, 0.8, 1000
JITTER = (WINDOW - STRIDE) // 4
"""By how much windows may move, and how much wider they pad their canvas."""


def test_shares_fall_as_theirs() -> None:
    """Over 50 steps, at the model's own times."""
    found = recorded("demofusion")
    past = [TIMES - time for time in found["shares time"]]
    reached("DemoFusion: share of the skip residual", [skip_weight(t, TIMES) for t in past], found["shares c1"])
    reached("DemoFusion: share of the dilated lane", [dilated_weight(t, TIMES) for t in past], found["shares c2"])
    reached("DemoFusion: width of the filter", [blur(t, TIMES) for t in past], found["shares c3"])


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (30, 41)], ids=str)
def test_windows_stand_where_theirs_do(size: tuple[int, int]) -> None:
    found = recorded("demofusion")
    ys, xs = (strided_origins(Axis(cells, 64, wrap=False), WINDOW, STRIDE) for cells in size)
    still = found[f"still {size[0]} {size[1]}"]
    assert [(y, y + WINDOW, x, x + WINDOW) for y in ys for x in xs] == [tuple(view) for view in still.tolist()]
    jittered = found[f"views {size[0]} {size[1]}"] - JITTER
    assert np.abs(jittered - still).max() == JITTER, "and move by no more than a quarter of their overlap"


def filtered(x: torch.Tensor, sigma: float, radius: int) -> torch.Tensor:
    """Our filter with nothing beyond the canvas, as theirs; ours goes on with the last cells."""
    return gaussian(functional.pad(x, (radius,) * 4), sigma, radius)


def respread(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`x` with the spread of `like`, by way of parts as workers have them."""
    own, wanted = (merge(Spread.of(part) for part in whole.split(12, dim=2)) for whole in (x, like))
    return renormalise(x, own, wanted)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("sigma", [0.8, 0.3])
def test_the_filter_is_theirs(scale: int, sigma: float) -> None:
    found = recorded("demofusion")
    ours = filtered(torch.from_numpy(found["filter x"]), sigma, scale - 1)
    reached(f"DemoFusion: filter of {2 * scale - 1} cells, sigma {sigma}", ours, found[f"filter {scale} {sigma}"])


def test_filtered_latents_get_back_their_spread() -> None:
    """One mean and one standard deviation over all channels and cells, as theirs."""
    found = recorded("demofusion")
    for step, x, theirs in zip(range(0, 8, 3), found["mixed"], found["filtered"], strict=True):
        latents = torch.from_numpy(x)
        ours = respread(filtered(latents, SIGMA * float(found["c3"][step]), SCALE - 1), latents)
        reached(f"DemoFusion: filtered latents, step {step}", ours, theirs)


def jittered(tiling: Tiling, views: Array) -> AtlasWindows:
    """Windows where theirs stood at a step, on one picture without joined sides."""
    atlas = Atlas((Face("picture", Box(0, tiling.y.cells, 0, tiling.x.cells)),), ())
    places = tuple((0, y, x) for y, _, x, _ in (views - JITTER).tolist())
    seen = tuple(atlas.parts(*place, WINDOW, WINDOW, 0) for place in places)
    return AtlasWindows(tiling, WINDOW, atlas, 0, places, seen)


def lead_as_theirs(patch: pytest.MonkeyPatch, found: dict[str, Array]) -> None:
    """Hand the engine what is left to chance or done otherwise in theirs: jitter, shares by the model's own times
    instead of steps, the cubic by which latents are enlarged, a sigma of 0.8 of the filter's width, and nothing beyond
    the canvas's edge."""
    own = Plan.windows

    def windows(plan: Plan, level: int, step: int) -> Any:
        return jittered(plan.levels[1].tiling, found["views"][step]) if level else own(plan, level, step)

    def enlarged(_: Beginning, level: int, box: Box, before: Any) -> torch.Tensor:  # noqa: ARG001
        return torch.from_numpy(found["enlarged"][:, box.y0 : box.y1, box.x0 : box.x1])

    patch.setattr(Plan, "windows", windows)
    patch.setattr(Beginning, "_enlarged", enlarged)
    past = TIMES - found["time"]
    patch.setattr("raytile.engine.beginning.skip_weight", lambda step, _: skip_weight(int(past[step]), TIMES))
    patch.setattr("raytile.engine.lane.dilated_weight", lambda step, _: dilated_weight(int(past[step]), TIMES))
    patch.setattr("raytile.engine.lane.blur", lambda step, _: SIGMA * blur(int(past[step]), TIMES))
    patch.setattr("raytile.engine.lane.F", SimpleNamespace(pad=lambda x, edges, mode: functional.pad(x, edges)))  # noqa: ARG005


def two_levels(folder: Path, steps: int, **changes: Any) -> RenderRequest:
    """A picture of 32 x 32 cells, twice as large as the tiny model's window."""
    values = {
        "prompt": PROMPT, "negative": NEGATIVE, "width": 256, "height": 256, "model": str(folder), "seed": SEED,
        "guidance": GUIDANCE, "sampler": "ddim", "levels": 2, "renoise": 1.0, "steps": steps, "tile": 128,
        "sync": "overlap", "stride": 0.5, "weights": "uniform", "skip_residual": True,
    }  # fmt: skip
    return RenderRequest.parse(**values | changes)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("dilated", [False, True], ids=["without lane", "with lane"])
def test_a_render_of_two_levels_is_theirs(
    dilated: bool, workers: int, tiny_16: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps of a phase of twice the size: skip residual, windows with their jitter, and the dilated lane or not.

    Theirs averages stepped latents, ours predictions that are then stepped once: DDIM is linear in both."""
    folder, pipeline = tiny_16
    found = recorded("demofusion")
    assert float(found["weights_sum"]) == pytest.approx(weights_sum(pipeline.unet), rel=1e-6), "record again"
    assert np.abs(start_noise(32, 32, level=1).numpy() - found["noise"]).max() < 1e-6
    lead_as_theirs(monkeypatch, found)
    canvas, summary = paint(two_levels(folder, len(found["time"]), dilated=dilated), tmp_path / "a.zarr", workers)
    what = "skip residual and dilated lane" if dilated else "skip residual"
    theirs = found["x"][-1] if dilated else found["near x"]
    reached(f"DemoFusion: a phase, {what}, {workers} workers", canvas.latents[...], theirs)
    assert summary["evaluations"] == 2 * 8 * (1 + 9 + 4 * dilated)
