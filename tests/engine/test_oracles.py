"""Law 3, and `overlap`, against diffusers' own pipelines on tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytile.geometry.box import Box
from raytile.models import registry
from raytile.models.reference import reference
from raytile.plan import noise
from tests.engine.renders import paint, toy_request
from tests.models.make_tiny import tiny_stable_diffusion, tiny_terra


def unit_noise(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(noise.normal(noise.key(seed, 0, "start"), Box(0, height, 0, width), channels))


def far(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_one_window_is_plain_stable_diffusion(sampler: str, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

    folder = tiny_stable_diffusion(tmp_path / "model")
    request = toy_request(
        model=str(folder),
        prompt="a red cat",
        negative="blur",
        width=32,
        height=32,
        steps=5,
        guidance=4.0,
        sampler=sampler,
    )
    canvas, summary = paint(request, tmp_path / "a.zarr")
    plain = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    kinds = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    plain.scheduler = kinds[sampler].from_config(plain.scheduler.config)
    plain.set_progress_bar_config(disable=True)
    words = {
        "prompt": "a red cat",
        "negative_prompt": "blur",
        "num_inference_steps": 5,
        "guidance_scale": 4.0,
        "height": 32,
        "width": 32,
    }
    start = unit_noise(3, 4, 8, 8)[None]
    latents = plain(**words, latents=start.clone(), output_type="latent").images[0].numpy()
    pixels = plain(**words, latents=start.clone(), output_type="np").images[0]
    assert far(canvas.latents[...], latents) < 1e-5
    assert np.abs(canvas.image[...].transpose(1, 2, 0) / 255 - pixels).max() <= 0.51 / 255
    assert summary["evaluations"] == 10


def test_one_window_of_terras_shape_is_its_reference_pipeline(tmp_path: Path) -> None:
    folder = tiny_terra(tmp_path / "model")
    request = toy_request(model=str(folder), prompt="snow", width=64, height=64, steps=6)
    canvas, _ = paint(request, tmp_path / "a.zarr")
    module = registry.load(registry.resolve(str(folder)))
    from raytile.api import plan

    pixels = reference(module, plan(request).levels[0].prompt, unit_noise(3, module.spec.channels, 8, 8), steps=6)
    assert np.abs(canvas.image[...] / 255 - (pixels / 2 + 0.5).clamp(0, 1).numpy()).max() <= 0.51 / 255


@pytest.fixture(scope="module")
def panorama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """diffusers' MultiDiffusion: windows of 64 cells, stride 8, 8 pixels a cell are built into it."""
    from diffusers import DDIMScheduler, StableDiffusionPanoramaPipeline

    folder = tiny_stable_diffusion(tmp_path_factory.mktemp("panorama") / "model", window=64, factor=8)
    pipeline = StableDiffusionPanoramaPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return folder, pipeline


def test_overlap_with_uniform_weights_is_multidiffusion(panorama: Any, tmp_path: Path) -> None:
    folder, pipeline = panorama
    height = width = 576
    request = toy_request(
        model=str(folder), prompt="a red cat", width=width, height=height, steps=2, guidance=3.0,
        sync="overlap", stride=0.125, weights="uniform", levels=1,
    )  # fmt: skip
    canvas, _ = paint(request, tmp_path / "a.zarr", 2)
    start = unit_noise(3, 4, height // 8, width // 8)[None]
    theirs = pipeline(
        "a red cat", height=height, width=width, num_inference_steps=2, guidance_scale=3.0, latents=start,
        output_type="latent",
    ).images[0].numpy()  # fmt: skip
    assert far(canvas.latents[...], theirs) < 1e-4


def test_sizes_off_the_stride_leave_no_strip_unpainted(panorama: Any, tmp_path: Path) -> None:
    """Where MultiDiffusion's windows do not reach, its latents come out blank; ours are painted."""
    folder, pipeline = panorama
    start = unit_noise(3, 4, 64, 76)[None]
    theirs = pipeline(
        "a cat", height=512, width=608, num_inference_steps=1, guidance_scale=1.0, latents=start.clone(),
        output_type="latent",
    ).images[0]  # fmt: skip
    assert (theirs[..., 72:] == 0).all(), "the oracle still has the fault that this test is about"
    request = toy_request(
        model=str(folder), prompt="a cat", width=608, height=512, steps=1, guidance=1.0, sync="overlap",
        stride=0.125, weights="uniform", levels=1,
    )  # fmt: skip
    canvas, _ = paint(request, tmp_path / "a.zarr")
    ours = canvas.latents[...]
    assert far(ours[..., :12], theirs[..., :12].numpy()) < 1e-4, "left of the window that we have and they lack"
    assert (np.abs(ours[..., 72:]).mean(axis=(0, 1)) > 0.1).all()
