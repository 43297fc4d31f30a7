"""The tiny random Stable Diffusion on which recordings are made and compared: 8 pixels a cell, DDIM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from raytile.geometry.box import Box
from raytile.plan import noise
from tests.models.make_tiny import tiny_stable_diffusion

PROMPT, NEGATIVE, GUIDANCE, SEED = "a red cat", "blur", 3.0, 3


def tiny_model(folder: Path, window: int) -> Any:
    """A StableDiffusionPipeline saved in `folder`, whose network takes `window` x `window` cells."""
    from diffusers import StableDiffusionPipeline

    tiny_stable_diffusion(folder, window=window, factor=8)
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def start_noise(height: int, width: int, level: int = 0) -> torch.Tensor:
    """The noise with which raytile starts a level by SEED, [4, height, width] cells."""
    return torch.from_numpy(noise.normal(noise.key(SEED, level, "start"), Box(0, height, 0, width), 4))


def weights_sum(unet: Any) -> float:
    """A figure that tells two random networks apart: recordings hold for one."""
    return float(sum(float(part.detach().double().abs().sum()) for part in unet.parameters()))
