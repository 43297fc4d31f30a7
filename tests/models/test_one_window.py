"""Law 3 at module level: one window is the plain pipeline's picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.models.base import Module
from raytile.models.reference import reference
from raytile.models.registry import load, resolve
from tests.models.make_tiny import tiny_stable_diffusion

KINDS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}


def unit(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def plain(folder: Path, sampler: str, noise: Tensor, seed: int, **call: Any) -> Tensor:
    """Unclamped pixels of StableDiffusionPipeline."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    pipeline.scheduler = KINDS[sampler].from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        latents=noise[None].clone(), generator=torch.Generator().manual_seed(seed), output_type="latent", **call
    ).images
    with torch.no_grad():
        pixels: Tensor = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample[0]
    return pixels


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("sampler", list(KINDS))
def test_stable_diffusion(sd: Module, sd_folder: Path, sampler: str, guidance: float) -> None:
    noise, shape = unit(4, 8, 8), (1, 4, 8, 8)
    want = plain(
        sd_folder,
        sampler,
        noise,
        seed=9,
        prompt="a red cat by the sea",
        negative_prompt="blur",
        num_inference_steps=7,
        guidance_scale=guidance,
        height=32,
        width=32,
    )
    generator = torch.Generator().manual_seed(9)
    got = reference(
        sd,
        "a red cat by the sea",
        noise,
        negative="blur",
        steps=7,
        guidance=guidance,
        sampler=sampler,
        fresh_noise=lambda _: torch.randn(shape, generator=generator)[0],
    )
    assert_close(got, want)


def test_velocity_model(tmp_path: Path) -> None:
    """SD 2.1's kind of model: v-prediction."""
    folder = tiny_stable_diffusion(tmp_path / "v", prediction="v_prediction", factor=8)
    noise = unit(4, 8, 8)
    want = plain(folder, "ddim", noise, 0, prompt="far hill", num_inference_steps=5, height=64, width=64)
    got = reference(load(resolve(str(folder))), "far hill", noise, steps=5, guidance=7.5)
    assert_close(got, want)


def test_a_prompt_longer_than_the_encoder_takes_is_cut(sd: Module, sd_folder: Path) -> None:
    noise, prompt = unit(4, 8, 8), "the snow of the far far hill and the sea " * 3
    want = plain(sd_folder, "ddim", noise, 0, prompt=prompt, num_inference_steps=2, height=32, width=32)
    assert_close(reference(sd, prompt, noise, steps=2, guidance=7.5), want)


def test_a_tokenizer_that_names_no_length(sd: Module, sd_folder: Path, tmp_path: Path) -> None:
    """transformers then says 1e30 tokens; the text encoder has places for sixteen."""
    folder = Path(shutil.copytree(sd_folder, tmp_path / "nameless"))
    config = folder / "tokenizer/tokenizer_config.json"
    content = json.loads(config.read_text())
    del content["model_max_length"]
    config.write_text(json.dumps(content))
    prompts = ["a red cat", "the snow of the far far hill and the sea " * 3]
    found = load(resolve(str(folder))).encode_prompts(prompts)
    for got, want in zip(found, sd.encode_prompts(prompts), strict=True):
        assert torch.equal(got["text"], want["text"])


@torch.no_grad()
def flow_by_hand(folder: Path, prompt: str, noise: Tensor, steps: int, guidance: float) -> Tensor:
    """terra's picture from its parts and diffusers' own flow scheduler, no raytile but the autoencoder's class."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    vae = LinearStartAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    tokens = tokenizer(["", prompt], padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    hidden = text(tokens.input_ids)[0]
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    x = noise[None]
    for step, time in enumerate(scheduler.timesteps):
        blank, wanted = unet(torch.cat([x, x]), time, encoder_hidden_states=hidden).sample.chunk(2)
        inside = 0.2 <= step / steps < 0.8
        x = scheduler.step(blank + guidance * (wanted - blank) if inside else wanted, time, x).prev_sample
    pixels: Tensor = vae.decode(x / vae.config.scaling_factor)[0]
    return pixels


def test_terra(terra: Module, terra_folder: Path) -> None:
    noise = unit(8, 8, 8)
    want = flow_by_hand(terra_folder, "near sand", noise, steps=6, guidance=2.5)
    assert_close(reference(terra, "near sand", noise), want)


def test_prompts_negatives_and_guidance_matter(terra: Module, sd: Module, toy: Module) -> None:
    for module in (terra, sd, toy):
        spec = module.spec
        noise = unit(spec.channels, spec.window, spec.window)
        call = {"steps": 3, "guidance": 3.0, "guidance_interval": (0.0, 1.0)}
        plain = reference(module, "red sea", noise, **call)
        assert not torch.equal(plain, reference(module, "snow hill", noise, **call))
        assert not torch.equal(plain, reference(module, "red sea", noise, negative="snow", **call))
        assert not torch.equal(plain, reference(module, "red sea", noise, **(call | {"guidance": 1.0})))
        assert torch.equal(plain, reference(module, "red sea", noise, **call))
