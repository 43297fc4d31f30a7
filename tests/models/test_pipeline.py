"""RaytilePipeline: the diffusers call, and one window's picture as the plain pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raytile
from raytile import RaytilePipeline, RenderRequest
from raytile.errors import InvalidModel, InvalidRequest
from raytile.geometry.box import Box
from raytile.models.reference import reference
from raytile.models.registry import load, resolve
from raytile.plan import noise


def paint(pipe: RaytilePipeline, prompt: str = "red sea", **call: Any) -> np.ndarray[Any, Any]:
    (image,) = pipe(prompt, in_process=True, num_inference_steps=3, **call).images
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.fixture(scope="module")
def toy_pipe() -> RaytilePipeline:
    return RaytilePipeline.from_pretrained("toy", device="cpu")


def test_size_defaults_to_one_window_and_is_the_users_otherwise(toy_pipe: RaytilePipeline) -> None:
    assert paint(toy_pipe).shape == (128, 128, 3)
    assert paint(toy_pipe, height=100, width=203).shape == (100, 203, 3)


def test_seeds_and_generators(toy_pipe: RaytilePipeline) -> None:
    assert np.array_equal(paint(toy_pipe), paint(toy_pipe, seed=0))
    assert not np.array_equal(paint(toy_pipe), paint(toy_pipe, seed=1))
    generator = torch.Generator().manual_seed(5)
    first, second = paint(toy_pipe, generator=generator), paint(toy_pipe, generator=generator)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, paint(toy_pipe, generator=torch.Generator().manual_seed(5)))
    with pytest.raises(InvalidRequest, match="not both"):
        paint(toy_pipe, generator=generator, seed=1)


def test_many_prompts(toy_pipe: RaytilePipeline) -> None:
    images = toy_pipe(["red", "blue"], in_process=True, num_inference_steps=2, seed=3).images
    assert len(images) == 2
    assert not np.array_equal(np.asarray(images[0]), np.asarray(images[1]))


def test_wrong_words_are_refused(toy_pipe: RaytilePipeline) -> None:
    with pytest.raises(InvalidModel, match="terra, toy, timed"):
        RaytilePipeline.from_pretrained("nothing")
    with pytest.raises(InvalidRequest, match="hight"):
        toy_pipe("red", hight=3, in_process=True)
    with pytest.raises(InvalidRequest, match="sampler"):
        toy_pipe("red", sampler="heun", in_process=True)


@pytest.mark.parametrize("kind", ["sd_folder", "terra_folder"])
def test_one_window_is_the_plain_pipeline(kind: str, request: pytest.FixtureRequest) -> None:
    """Law 3 through every layer: the only difference is the micro-batch's padding."""
    folder: Path = request.getfixturevalue(kind)
    spec = resolve(str(folder))
    pipe = RaytilePipeline.from_pretrained(folder, device="cpu")
    got = paint(pipe, "a red cat", negative_prompt="blur", seed=11, levels=1)
    unit = noise.normal(noise.key(11, 0, "start"), Box(0, spec.window, 0, spec.window), spec.channels)
    wish = RenderRequest.parse(prompt="a red cat", model=str(folder), width=got.shape[1], height=got.shape[0], levels=1)
    words = raytile.plan(wish).levels[0].prompt  # with the model's own word for this zoom
    pixels = reference(load(spec), words, torch.from_numpy(unit), negative="blur", steps=3)
    want = ((pixels / 2 + 0.5).clamp(0, 1) * 255).numpy().transpose(1, 2, 0)
    assert np.abs(got - want).max() <= 0.5 + 1e-2
