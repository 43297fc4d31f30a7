"""Every sampler is the diffusers scheduler of its name, over whole runs."""

from __future__ import annotations

from collections.abc import Callable
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
)
from torch import Tensor

from raytile.errors import InvalidModel, InvalidRequest
from raytile.models.schedules import build_schedule
from raytile.plan.spec import Prediction
from raytile.sampling import SAMPLERS, Memory, Schedule, needs_noise, renoise, scale_input, start

SD: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
FLOW: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 1.0,
}
KINDS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}
SPACINGS = ("leading", "trailing", "linspace")


def network(x: Tensor, time: float) -> Tensor:
    """Some smooth nonlinear function of x and time: any would do."""
    return torch.sin(x * 1.3 + time / 300) * 0.8 + 0.1 * x


def theirs(scheduler: Any, steps: int, noise: Tensor, seed: int) -> Tensor:
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    else:
        scheduler.set_timesteps(steps)
    x = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    extra = {"generator": torch.Generator().manual_seed(seed)} if "Ancestral" in type(scheduler).__name__ else {}
    for time in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(shown, float(time)), time, x, **extra).prev_sample
    return x


def ours(schedule: Schedule, noise: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x, memory = start(noise, schedule), ()
    for step, time in enumerate(schedule.timesteps):
        prediction = network(scale_input(x, step, schedule), time)
        fresh = torch.randn(x.shape, generator=generator) if needs_noise(schedule, step) else None
        x, memory = SAMPLERS[schedule.sampler](x, prediction, step, memory, schedule, fresh)
    return x


def assert_same_run(scheduler: Any, schedule: Schedule, steps: int) -> None:
    noise = torch.randn(2, 4, 7, 9, generator=torch.Generator().manual_seed(3))
    want, got = theirs(scheduler, steps, noise, seed=5), ours(schedule, noise, seed=5)
    assert (want - got).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", list(KINDS))
def test_stable_diffusion_runs(sampler: str, prediction: Prediction, spacing: str, steps: int) -> None:
    config = SD | {"prediction_type": prediction, "timestep_spacing": spacing}
    schedule = build_schedule(config, prediction, sampler, steps)
    assert_same_run(KINDS[sampler].from_config(config), schedule, steps)


@pytest.mark.parametrize("steps", [2, 14, 15, 25])
@pytest.mark.parametrize(
    "change",
    [
        {"use_karras_sigmas": True},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False, "euler_at_final": True},
        {"prediction_type": "sample"},
        {"beta_schedule": "linear"},
        {"steps_offset": 0},
    ],
    ids=str,
)
def test_dpmpp_2m_settings(change: dict[str, Any], steps: int) -> None:
    config = SD | {"timestep_spacing": "leading", "prediction_type": "epsilon"} | change
    schedule = build_schedule(config, config["prediction_type"], "dpmpp_2m", steps)
    assert_same_run(DPMSolverMultistepScheduler.from_config(config), schedule, steps)


@pytest.mark.parametrize("change", [{"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}], ids=str)
def test_euler_settings(change: dict[str, Any]) -> None:
    config = SD | {"prediction_type": "epsilon"} | change
    assert_same_run(EulerDiscreteScheduler.from_config(config), build_schedule(config, "epsilon", "euler", 12), 12)


@pytest.mark.parametrize(
    "change",
    [
        {"set_alpha_to_one": True},
        {"steps_offset": 0},
        {"prediction_type": "sample"},
        {"beta_schedule": "linear"},
    ],
    ids=str,
)
def test_ddim_settings(change: dict[str, Any]) -> None:
    config = SD | {"prediction_type": "epsilon", "timestep_spacing": "leading"} | change
    schedule = build_schedule(config, config["prediction_type"], "ddim", 17)
    assert_same_run(DDIMScheduler.from_config(config), schedule, 17)


ZERO_SNR = SD | {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_zero_terminal_snr(sampler: str) -> None:
    schedule = build_schedule(ZERO_SNR, "v_prediction", sampler, 10)
    assert_same_run(KINDS[sampler].from_config(ZERO_SNR), schedule, 10)


def test_zero_terminal_snr_euler() -> None:
    """From sigma 4096 diffusers' x + slope * dsigma cancels in float32 (1e-4 off); ours stays within 1e-5."""
    schedule = build_schedule(ZERO_SNR, "v_prediction", "euler", 10)
    noise = torch.randn(2, 4, 7, 9, generator=torch.Generator().manual_seed(3))
    exact, got = ours(schedule, noise.double(), seed=5), ours(schedule, noise, seed=5)
    want = theirs(EulerDiscreteScheduler.from_config(ZERO_SNR), 10, noise, seed=5)
    assert (got - exact).abs().max() <= 1e-5 * exact.abs().max()
    assert (want - exact).abs().max() <= 1e-4 * exact.abs().max()


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler(shift: float, steps: int) -> None:
    config = FLOW | {"shift": shift}
    schedule = build_schedule(config, "flow", "euler", steps)
    assert_same_run(FlowMatchEulerDiscreteScheduler.from_config(config), schedule, steps)


@pytest.mark.parametrize("steps", [1, 2, 14, 20])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_dpmpp_2m(shift: float, steps: int) -> None:
    schedule = build_schedule(FLOW | {"shift": shift}, "flow", "dpmpp_2m", steps)
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    assert_same_run(scheduler, schedule, steps)


def run_from(schedule: Schedule, x: Tensor, first: int) -> Tensor:
    memory: Memory = ()
    for step in range(first, schedule.steps):
        prediction = network(scale_input(x, step, schedule), schedule.timesteps[step])
        x, memory = SAMPLERS[schedule.sampler](x, prediction, step, memory, schedule)
    return x


@pytest.mark.parametrize(
    ("sampler", "make"),
    [("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler), ("dpmpp_2m", DPMSolverMultistepScheduler)],
)
def test_a_run_that_starts_midway(sampler: str, make: Callable[..., Any]) -> None:
    """Renoising clean latents and going on from step k is diffusers' image-to-image course."""
    config, steps, first = SD | {"prediction_type": "epsilon", "timestep_spacing": "leading"}, 20, 8
    schedule = build_schedule(config, "epsilon", sampler, steps)
    generator = torch.Generator().manual_seed(11)
    clean, noise = (torch.randn(1, 4, 6, 6, generator=generator) for _ in range(2))
    scheduler = make.from_config(config)  # type: ignore[attr-defined]
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    x = scheduler.add_noise(clean, noise, scheduler.timesteps[first : first + 1])
    mine = renoise(clean, noise, first, schedule)
    assert torch.allclose(mine, x, atol=2e-6)
    for time in scheduler.timesteps[first:]:
        shown = scheduler.scale_model_input(x, time)
        x = scheduler.step(network(shown, float(time)), time, x).prev_sample
    assert (run_from(schedule, mine, first) - x).abs().max() <= 1e-5 * x.abs().max()


def test_flow_renoise_is_a_straight_line() -> None:
    schedule = build_schedule(FLOW, "flow", "euler", 10)
    clean, noise = torch.full((2, 2), 3.0), torch.full((2, 2), -1.0)
    for step, sigma in enumerate(schedule.sigmas[:-1]):
        assert torch.allclose(renoise(clean, noise, step, schedule), (1 - sigma) * clean + sigma * noise)


def test_a_sampler_the_prediction_cannot_use_names_those_that_can() -> None:
    with pytest.raises(InvalidRequest, match="euler, dpmpp_2m"):
        build_schedule(FLOW, "flow", "ddim", 10)
    with pytest.raises(InvalidRequest, match="ddim, euler, euler_ancestral, dpmpp_2m"):
        build_schedule(SD, "epsilon", "heun", 10)


def test_more_steps_than_timesteps_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most 1000"):
        build_schedule(SD, "epsilon", "ddim", 1001)
    with pytest.raises(InvalidRequest, match="use fewer"):
        build_schedule(SD, "epsilon", "ddim", 1000)  # steps_offset 1 would ask for timestep 1000 of 0..999


@pytest.mark.parametrize("sampler", list(KINDS))
def test_a_timestep_too_many_is_dropped(sampler: str) -> None:
    """diffusers' trailing spacing rounds to 62 times for 61 steps, the last of them -1."""
    config = SD | {"timestep_spacing": "trailing"}
    scheduler = KINDS[sampler].from_config(config)
    scheduler.set_timesteps(61)
    schedule = build_schedule(config, "epsilon", sampler, 61)
    assert (len(scheduler.timesteps), schedule.steps) == (62, 61)
    assert schedule.timesteps == tuple(float(time) for time in scheduler.timesteps[:61])
    assert min(schedule.timesteps) > 0
    assert len(schedule.sigmas) == 62
    assert len(schedule.ends) == 61


def test_a_noise_level_twice_is_refused_where_the_solver_divides_by_the_gap() -> None:
    with pytest.raises(InvalidRequest, match="use fewer"):
        build_schedule(SD | {"timestep_spacing": "leading"}, "epsilon", "dpmpp_2m", 1000)


def test_zero_terminal_snr_needs_velocity() -> None:
    with pytest.raises(InvalidModel, match="v_prediction"):
        build_schedule(ZERO_SNR | {"prediction_type": "epsilon"}, "epsilon", "ddim", 10)


def test_a_config_that_changes_the_update_is_refused() -> None:
    with pytest.raises(InvalidModel, match="thresholding"):
        build_schedule(SD | {"thresholding": True}, "epsilon", "ddim", 10)
