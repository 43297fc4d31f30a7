"""Windows that overlap round a cylinder, weighted ones, and ones that shift, against the programs they are from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytile.geometry.box import Box
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.sync.fuse import Contribution, fuse, profile
from tests.engine.renders import paint
from tests.oracles.figures import far, reached, recorded
from tests.oracles.tiny import GUIDANCE, NEGATIVE, PROMPT, SEED, start_noise, weights_sum

AGAIN = "the tiny model is not the one of the recording: record again"


def request(folder: Path, height: int, width: int, **changes: Any) -> RenderRequest:
    """A picture of `height` x `width` cells of the tiny model, on one level."""
    values = {
        "prompt": PROMPT, "height": 8 * height, "width": 8 * width, "model": str(folder), "seed": SEED,
        "guidance": GUIDANCE, "sampler": "ddim", "levels": 1,
    }  # fmt: skip
    return RenderRequest.parse(**values | changes)


def same_start(found: dict[str, Any], pipeline: Any, prefix: str = "") -> None:
    """The recording is of this model, and starts from the noise that raytile draws."""
    assert float(found["weights_sum"]) == pytest.approx(weights_sum(pipeline.unet), rel=1e-6), AGAIN
    start = found[f"{prefix}start"]
    assert np.abs(start_noise(*start.shape[1:]).numpy() - start).max() < 1e-6


def test_overlap_round_a_cylinder_is_circular_multidiffusion(tiny_16: tuple[Path, Any], tmp_path: Path) -> None:
    """diffusers' panorama with circular padding, its windows of 64 cells made 16. It holds for one row of windows: in
    lower rows its views that run over the side are cut by canvas rows, and it fails."""
    from diffusers import DDIMScheduler, StableDiffusionPanoramaPipeline

    folder, plain = tiny_16
    pipeline = StableDiffusionPanoramaPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(plain.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    views = pipeline.get_views
    pipeline.get_views = lambda height, width, **named: views(height, width, window_size=16, stride=4, **named)
    canvas, summary = paint(
        request(folder, 16, 28, steps=4, sync="overlap", stride=0.25, weights="uniform", wrap="x"), tmp_path / "a.zarr"
    )
    said = {"height": 8 * 16, "width": 8 * 28, "num_inference_steps": 4, "guidance_scale": GUIDANCE}
    theirs = pipeline(
        PROMPT, **said, latents=start_noise(16, 28)[None], output_type="latent", circular_padding=True
    ).images[0]
    reached("panorama, circular: whole run", canvas.latents[...], theirs)
    assert summary["evaluations"] == 2 * 7 * 4, "seven windows, as many as circular padding makes"


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (8, 12)], ids=str)
def test_gaussian_weights_are_those_of_mixture_of_diffusers(size: tuple[int, int]) -> None:
    """Across they are the same; down, theirs are ours about a middle half a cell lower (height / 2)."""
    height, width = size
    theirs = recorded("mixture")[f"weights {height} {width}"]
    down, across = theirs[:, 0] / theirs[0, 0], theirs[0] / theirs[0, 0]
    ours_down, ours_across = profile("gaussian", height), profile("gaussian", width)
    assert ours_down is not None
    assert ours_across is not None
    reached(f"Mixture of Diffusers: weights across, {width} cells", ours_across / ours_across[0], across)
    assert np.allclose(ours_down, ours_down.flip(0), rtol=1e-6), "ours are the same from above and from below"
    middle = np.arange(height) - height / 2
    shape = np.exp(-((middle / height) ** 2) / 0.02)
    assert far(shape / shape[0], down) < 1e-9, "theirs are not"
    print(f"\noracle | Mixture of Diffusers: weights down, {height} cells (their middle is lower) | "
          f"{far(ours_down / ours_down.sum(), down / down.sum()):.1e}")  # fmt: skip


@pytest.mark.parametrize("name", ["row", "grid"])
def test_fusing_is_that_of_mixture_of_diffusers(name: str) -> None:
    """Their predictions under their weights, summed by our rule, are their sum."""
    found = recorded("mixture")
    said, theirs = torch.from_numpy(found[f"{name} said"]), found[f"{name} fused"]
    weights = torch.from_numpy(found["weights 8 8"]).float()
    core = Box(0, theirs.shape[1], 0, theirs.shape[2])
    columns = (core.width - 4) // 4
    boxes = [Box(0, 8, 0, 8).shift(4 * (window // columns), 4 * (window % columns)) for window in range(len(said))]
    ours = fuse(core, 4, [Contribution(box, values, weights) for box, values in zip(boxes, said, strict=True)])
    reached(f"Mixture of Diffusers: fusing, {name}", ours, theirs)


def test_a_row_of_weighted_windows_is_mixture_of_diffusers(tiny_8: tuple[Path, Any], tmp_path: Path) -> None:
    folder, pipeline = tiny_8
    found = recorded("mixture")
    same_start(found, pipeline, "row ")
    canvas, _ = paint(
        request(folder, 8, 16, steps=4, sync="overlap", stride=0.5, weights="gaussian"), tmp_path / "a.zarr"
    )
    reached("Mixture of Diffusers: whole run, a row", canvas.latents[...], found["row latents"])


def test_a_grid_of_weighted_windows_is_mixture_of_diffusers(
    tiny_8: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the middle of their weights, half a cell lower than the window's; with ours the run is near theirs."""
    folder, pipeline = tiny_8
    found = recorded("mixture")
    same_start(found, pipeline, "grid ")
    wish = request(folder, 12, 16, steps=4, sync="overlap", stride=0.5, weights="gaussian")
    canvas, _ = paint(wish, tmp_path / "a.zarr")
    symmetric = far(canvas.latents[...], found["grid latents"])
    print(f"\noracle | Mixture of Diffusers: whole run, a grid, our middle | {symmetric:.1e}")
    assert 1e-4 < symmetric < 0.5, "the middle matters, and not much"

    outer = torch.outer

    def lower(line: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
        middle = torch.arange(len(line), dtype=torch.float64) - len(line) / 2
        return outer(torch.exp(-((middle / len(line)) ** 2) / 0.02).float(), across)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "outer", lower)
        canvas, _ = paint(wish, tmp_path / "b.zarr")
    reached("Mixture of Diffusers: whole run, a grid, their middle", canvas.latents[...], found["grid latents"])


def test_windows_that_shift_sideways_are_spotdiffusion(
    tiny_8: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rolls the canvas under windows that stand still, and leaves it rolled; ours move over the canvas."""
    folder, pipeline = tiny_8
    found = recorded("spotdiffusion")
    same_start(found, pipeline)
    rolled = np.concatenate(([0], np.cumsum(found["shifts"])))
    monkeypatch.setattr(Plan, "offset", lambda _plan, _level, step: (0, int(rolled[step]) % 8))
    _, height, width = found["start"].shape
    wish = request(folder, height, width, steps=len(found["shifts"]), negative=NEGATIVE, wrap="x")
    canvas, summary = paint(wish, tmp_path / "a.zarr")
    theirs = np.roll(found["latents"], int(rolled[-1]), axis=2)
    reached("SpotDiffusion: whole run, its shifts", canvas.latents[...], theirs)
    assert summary["evaluations"] == 2 * (height // 8) * (width // 8) * len(found["shifts"])
