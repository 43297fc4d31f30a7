"""Samplers as pure functions: one step of denoising for whatever cells a tensor holds.

Each update is a sum of tensors times scalars, the scalars worked out in double precision beforehand, every
product and every sum an operation of its own. So a cell's bits depend on that cell alone, never on the tensor
it is cropped from (fused multiply-adds would round differently in a vector's tail). This file knows no
windows, tiles or weights.
"""
# ruff: noqa: ARG001 - every sampler takes the same arguments, used or not

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from raytile.plan.spec import Prediction

Memory = tuple["Tensor", ...]
"""What a sampler carries from one step to the next: tensors of x's shape, cropped and moved with it."""


@dataclass(frozen=True)
class Schedule:
    """The numbers of a whole run of n steps, in the scaling of x that the sampler works in.

    Step i starts from x = alphas[i] * clean + sigmas[i] * unit noise (both have n + 1 entries, the last being
    where the run ends) and lands on ends[i] = (alpha, sigma), which is the start of step i + 1 but for DDIM's
    rounding of timesteps. timesteps[i] is the model's own time of step i. `init_noise_sigma` scales unit
    noise into the x of step 0. `last_is_first_order`: whether a multistep sampler ends with such a step."""

    sampler: str
    prediction: Prediction
    timesteps: tuple[float, ...]
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    ends: tuple[tuple[float, float], ...]
    init_noise_sigma: float
    last_is_first_order: bool = True

    @property
    def steps(self) -> int:
        return len(self.timesteps)


class Sampler(Protocol):
    """(x, prediction) at `step` -> (x at the next step, memory for it).

    Tensors are float32 of one shape. `memory` is what the previous step returned, or empty where there was
    none; `noise` is unit noise where `needs_noise` says so."""

    def __call__(
        self,
        x: Tensor,
        prediction: Tensor,
        step: int,
        memory: Memory,
        schedule: Schedule,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Memory]: ...


def needs_noise(schedule: Schedule, step: int) -> bool:
    """Whether the sampler adds fresh noise at `step`."""
    return schedule.sampler == "euler_ancestral" and schedule.ends[step][1] > 0


def start(noise: Tensor, schedule: Schedule) -> Tensor:
    """The x of step 0 from unit noise."""
    return noise * schedule.init_noise_sigma


def renoise(clean: Tensor, noise: Tensor, step: int, schedule: Schedule) -> Tensor:
    """Clean latents brought to the noise level at which `step` starts."""
    return clean * schedule.alphas[step] + noise * schedule.sigmas[step]


def scale_input(x: Tensor, step: int, schedule: Schedule) -> Tensor:
    """What the network is shown: x, brought to unit variance where the sampler lets it grow with sigma."""
    if schedule.prediction == "flow" or not schedule.sampler.startswith("euler"):
        return x
    return x * (1 / math.hypot(schedule.alphas[step], schedule.sigmas[step]))


def clean_estimate(x: Tensor, prediction: Tensor, step: int, schedule: Schedule) -> Tensor:
    """The clean latents that `prediction` promises of the x that `step` starts from."""
    of_x, of_prediction, _, _ = _estimate(schedule, step)
    return x * of_x + prediction * of_prediction


def ddim(
    x: Tensor,
    prediction: Tensor,
    step: int,
    memory: Memory,
    schedule: Schedule,
    noise: Tensor | None = None,
) -> tuple[Tensor, Memory]:
    """DDIM with eta 0 (Song et al. 2020, arXiv 2010.02502, eq. 12): estimate clean and noise, remix."""
    alpha, sigma = schedule.ends[step]
    return _mix(x, prediction, step, schedule, alpha, sigma), ()


euler = ddim
"""Euler's step along dx/dsigma (Karras et al. 2022, arXiv 2206.00364, algorithm 1), and along a flow's line:
the very mixture of DDIM, in the scaling of x that the schedule brings (alpha = 1, or alpha = 1 - sigma)."""


def euler_ancestral(
    x: Tensor,
    prediction: Tensor,
    step: int,
    memory: Memory,
    schedule: Schedule,
    noise: Tensor | None = None,
) -> tuple[Tensor, Memory]:
    """Euler to a lower sigma, then fresh noise up to the next (k-diffusion's `sample_euler_ancestral`)."""
    here = schedule.sigmas[step]
    alpha, there = schedule.ends[step]
    up = there * math.sqrt(here**2 - there**2) / here
    down = math.sqrt(there**2 - up**2)
    moved = _mix(x, prediction, step, schedule, alpha, down)
    if not needs_noise(schedule, step):
        return moved, ()
    if noise is None:
        raise ValueError(f"step {step} of euler_ancestral needs noise")
    return moved + noise * up, ()


def dpmpp_2m(
    x: Tensor,
    prediction: Tensor,
    step: int,
    memory: Memory,
    schedule: Schedule,
    noise: Tensor | None = None,
) -> tuple[Tensor, Memory]:
    """DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    The memory is the previous step's clean estimate; without one the step is of first order."""
    clean = clean_estimate(x, prediction, step, schedule)
    alpha, sigma = schedule.ends[step]
    drift = sigma / schedule.sigmas[step]
    gain = alpha - schedule.alphas[step] * drift
    last = step == schedule.steps - 1
    if not memory or (last and schedule.last_is_first_order):
        return x * drift + clean * gain, (clean,)
    here = _log_snr(schedule, step)
    extrapolate = (math.log(alpha / sigma) - here) / (here - _log_snr(schedule, step - 1)) / 2
    moved = x * drift + clean * (gain * (1 + extrapolate))
    return moved + memory[0] * (-gain * extrapolate), (clean,)


SAMPLERS: Mapping[str, Sampler] = {
    "ddim": ddim,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
}


def _log_snr(schedule: Schedule, step: int) -> float:
    return math.log(schedule.alphas[step] / schedule.sigmas[step])


def _estimate(schedule: Schedule, step: int) -> tuple[float, float, float, float]:
    """(a, b, c, d): clean = a * x + b * prediction, noise = c * x + d * prediction."""
    alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
    match schedule.prediction:
        case "epsilon":
            return 1 / alpha, -sigma / alpha, 0.0, 1.0
        case "sample":
            return 0.0, 1.0, 1 / sigma, -alpha / sigma
        case "flow":
            return 1.0, -sigma, 1.0, alpha
        case "v_prediction":
            # v is defined for x of unit variance (Salimans and Ho 2022, arXiv 2202.00512, section 4)
            size = math.hypot(alpha, sigma)
            return alpha / size**2, -sigma / size, sigma / size**2, alpha / size


def _mix(x: Tensor, prediction: Tensor, step: int, schedule: Schedule, alpha: float, sigma: float) -> Tensor:
    """alpha * (clean estimate) + sigma * (noise estimate)."""
    clean_x, clean_p, noise_x, noise_p = _estimate(schedule, step)
    return x * (alpha * clean_x + sigma * noise_x) + prediction * (alpha * clean_p + sigma * noise_p)
