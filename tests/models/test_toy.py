"""toy and timed: deterministic, local, and as light as their file says."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.errors import InvalidModel
from raytile.models.base import Module
from raytile.models.registry import load, resolve
from raytile.models.toy import Pace, Timing, toy_spec

REACH = 3
"""Cells that toy's three 3x3 convolutions look to each side."""


def test_toy_is_the_same_on_every_machine() -> None:
    """Weights are drawn by counter: this digest is over their bytes."""
    assert toy_spec().digest == "9f92309f67d68c1eac5a0ebcd157ad0317d463e91dcab720cdb371a2d475758c"


@settings(max_examples=20, deadline=None)
@given(y=st.integers(0, 20), x=st.integers(0, 20), seed=st.integers(0, 99))
def test_a_crop_with_its_halo_decodes_like_the_whole(y: int, x: int, seed: int, toy: Module) -> None:
    latents = torch.randn(4, 24, 24, generator=torch.Generator().manual_seed(seed))
    whole, factor, halo = toy.decode(latents), toy.spec.factor, toy.spec.decode_halo
    top, left = max(0, y - halo), max(0, x - halo)
    crop = toy.decode(latents[:, top : y + 4 + halo, left : x + 4 + halo])
    rows = slice((y - top) * factor, (y - top + 4) * factor)
    columns = slice((x - left) * factor, (x - left + 4) * factor)
    want = whole[:, y * factor : (y + 4) * factor, x * factor : (x + 4) * factor]
    assert torch.allclose(crop[:, rows, columns], want, atol=1e-6)


def test_the_halo_is_no_larger_than_needed(toy: Module) -> None:
    latents = torch.zeros(4, 9, 9)
    latents[:, 4, 4] = 1
    touched = toy.decode(latents).abs().amax(0).reshape(9, 8, 9, 8).amax((1, 3)) > 0
    assert touched.nonzero().min() == 4 - toy.spec.decode_halo
    assert touched.nonzero().max() == 4 + toy.spec.decode_halo


def test_prediction_looks_three_cells_far(toy: Module) -> None:
    x = torch.zeros(2, 4, 16, 16)
    x[1, :, 8, 8] = 1
    blank, poked = toy.predict(x, 500.0, toy.encode_prompts(["red", "red"]))
    touched = (blank != poked).any(0).nonzero()
    assert (touched.min(0).values.tolist(), touched.max(0).values.tolist()) == ([8 - REACH] * 2, [8 + REACH] * 2)


def test_pictures_fill_the_range_without_leaving_it(toy: Module) -> None:
    from raytile.models.reference import reference

    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(2))
    for sampler in ("ddim", "euler", "euler_ancestral", "dpmpp_2m"):
        pixels = reference(toy, "a red sea", noise, sampler=sampler, fresh_noise=lambda _: noise.flip(2))
        assert pixels.isfinite().all()
        assert 0.05 < pixels.std() < 0.7
        assert (pixels.abs() > 1).float().mean() < 0.1


def test_timed_sleeps_and_computes_next_to_nothing() -> None:
    module = load(resolve("timed:seconds=0.2"))
    words = module.encode_prompts(["a"]) * 4
    clock, cpu = time.monotonic(), time.process_time()
    predicted = module.predict(torch.ones(4, 4, 16, 16), 1.0, words)
    assert time.monotonic() - clock >= 0.2
    assert time.process_time() - cpu < 0.2
    assert torch.equal(predicted, torch.full((4, 4, 16, 16), 0.5))
    assert module.rows_evaluated() == 4


def test_jitter_is_drawn_by_seed_and_input(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    inputs = torch.randn(20, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for name in ("timed:seconds=0.5,jitter=0.2,seed=1",) * 2 + ("timed:seconds=0.5,jitter=0.2,seed=2",):
        module = load(resolve(name))
        for x in inputs:
            module.predict(x, 7.0, module.encode_prompts(["a"]))
    first, again, other = np.array(slept).reshape(3, 20)
    assert (first == again).all()
    assert (first != other).any()
    assert (np.abs(np.array(slept) - 0.5) <= 0.1).all()
    assert first.std() > 0.02


@pytest.mark.parametrize(
    "text", ["seconds", "seconds=fast", "second=1", "seconds=-1", "jitter=2", "seconds=nan", "seed=-1", "seed=1.5"]
)
def test_a_wrong_timing_shows_the_right_form(text: str) -> None:
    with pytest.raises(InvalidModel, match="timed"):
        resolve(f"timed:{text}")


def test_timing_defaults() -> None:
    assert Timing.parse("") == Timing()
    assert Timing.parse("seconds=0.25,seed=4") == Timing(0.25, 0.0, 4)
    assert resolve("timed:seconds=1").name == "timed:seconds=1"


def test_a_slow_machine_sleeps_longer_and_stutters(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("RAYTILE_TIMED_SLOWER", "2.0")
    monkeypatch.setenv("RAYTILE_TIMED_STUTTER", "3:1.5")
    module = load(resolve("timed:seconds=0.5"))
    x, words = torch.ones(1, 4, 16, 16), module.encode_prompts(["a"])
    assert all(torch.equal(module.predict(x, 7.0, words), x / 2) for _ in range(6))
    assert slept == [1.0, 1.0, 2.5, 1.0, 1.0, 2.5]


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOWER", "0"), ("SLOWER", "nan"), ("SLOWER", "x"), ("STUTTER", "20"), ("STUTTER", "-1:2"), ("STUTTER", "2:-1")],
)
def test_a_wrong_pace_shows_the_right_form(name: str, value: str) -> None:
    with pytest.raises(InvalidModel, match="write RAYTILE_TIMED_SLOWER"):
        Pace.read({f"RAYTILE_TIMED_{name}": value})
    assert Pace.read({}).seconds(0.5, 20) == 0.5
