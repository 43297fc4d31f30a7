"""From a folder's scheduler config to the numbers of a run, through the diffusers scheduler of that name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from raytile.errors import InvalidModel, InvalidRequest
from raytile.plan.spec import Prediction, samplers_for
from raytile.sampling import Schedule

Config = Mapping[str, Any]

UNSUPPORTED = (
    "thresholding",
    "use_dynamic_shifting",
    "invert_sigmas",
    "stochastic_sampling",
    "shift_terminal",
)
"""Config switches that would change the update itself; a folder that sets one is refused, not half obeyed."""


def build_schedule(config: Config, prediction: Prediction, sampler: str, steps: int) -> Schedule:
    """The schedule of `steps` steps. `config` is a scheduler_config.json of any diffusers scheduler.

    Clipping of the clean estimate is off, as Stable Diffusion pipelines have it: latents have no such range.
    Raises `InvalidRequest` for a sampler that the prediction type cannot use and for more steps than the
    model has times, `InvalidModel` for a config that asks for an update raytile does not do."""
    allowed = samplers_for(prediction)
    if sampler not in allowed:
        raise InvalidRequest(
            f"sampler: a model of prediction type {prediction} can use {', '.join(allowed)}, not {sampler!r}"
        )
    for name in UNSUPPORTED:
        if config.get(name):
            raise InvalidModel(f"scheduler config: {name} is not supported; set it to false in scheduler_config.json")
    times = int(config.get("num_train_timesteps", 1000))
    if steps > times:
        raise InvalidRequest(f"steps: this model has {times} timesteps, so at most {times} steps (got {steps})")
    build = {"ddim": _ddim, "dpmpp_2m": _dpmpp_2m}.get(sampler, _flow if prediction == "flow" else _euler)
    schedule = build(config, prediction, sampler, steps)
    if prediction == "epsilon" and min(schedule.alphas) == 0:
        raise InvalidModel("scheduler config: rescale_betas_zero_snr needs a model of prediction type v_prediction")
    if sampler == "dpmpp_2m" and any(low >= high for high, low in pairwise(schedule.sigmas)):
        raise InvalidRequest(f"steps: {steps} steps of {sampler} fall on the same noise level twice; use fewer")
    return schedule


def _ddim(config: Config, prediction: Prediction, sampler: str, steps: int) -> Schedule:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(dict(config), clip_sample=False)
    scheduler.set_timesteps(steps)
    times = [int(time) for time in scheduler.timesteps]
    kept = scheduler.alphas_cumprod.double()
    if max(times) >= len(kept):
        raise InvalidRequest(f"steps: {steps} steps run past the model's {len(kept)} timesteps; use fewer")
    final = float(scheduler.final_alpha_cumprod.double())
    stride = len(kept) // steps

    def level(time: int) -> tuple[float, float]:
        share = float(kept[time]) if time >= 0 else final
        return share**0.5, (1 - share) ** 0.5

    ends = [level(time - stride) for time in times[:steps]]
    levels = [*(level(time) for time in times), ends[-1]]
    return _assemble(sampler, prediction, steps, times, levels, ends)


def _euler(config: Config, prediction: Prediction, sampler: str, steps: int) -> Schedule:
    from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

    kind = EulerAncestralDiscreteScheduler if sampler == "euler_ancestral" else EulerDiscreteScheduler
    scheduler = kind.from_config(dict(config))
    scheduler.set_timesteps(steps)
    levels = [(1.0, float(sigma)) for sigma in scheduler.sigmas]
    schedule = _assemble(sampler, prediction, steps, scheduler.timesteps, levels)
    return replace(schedule, init_noise_sigma=float(scheduler.init_noise_sigma))


def _flow(config: Config, prediction: Prediction, sampler: str, steps: int) -> Schedule:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(config), shift=_shift(config))
    # even steps from 1 to 0, as diffusers' FLUX pipeline asks for them: left to itself the scheduler spends its last
    # step between 0.001 and 0
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    levels = [(1 - float(sigma), float(sigma)) for sigma in scheduler.sigmas]
    return _assemble(sampler, prediction, steps, scheduler.timesteps, levels)


def _shift(config: Config) -> float:
    """How far a flow's times lean towards noise; its name differs between diffusers' schedulers."""
    return float(config.get("shift", config.get("flow_shift", 1.0)))


def _dpmpp_2m(config: Config, prediction: Prediction, sampler: str, steps: int) -> Schedule:
    from diffusers import DPMSolverMultistepScheduler

    form: dict[str, Any] = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    if prediction == "flow":
        form |= {
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": _shift(config),
            "final_sigmas_type": "zero",
        }
    scheduler = DPMSolverMultistepScheduler.from_config(dict(config), **form)
    scheduler.set_timesteps(steps)
    if prediction == "flow":
        levels = [(1 - float(sigma), float(sigma)) for sigma in scheduler.sigmas]
    else:
        alphas = [(float(sigma) ** 2 + 1) ** -0.5 for sigma in scheduler.sigmas]
        levels = [(alpha, float(sigma) * alpha) for alpha, sigma in zip(alphas, scheduler.sigmas, strict=True)]
    settings = scheduler.config
    last_is_first_order = (
        settings.final_sigmas_type == "zero" or settings.euler_at_final or (settings.lower_order_final and steps < 15)
    )
    schedule = _assemble(sampler, prediction, steps, scheduler.timesteps, levels)
    return replace(schedule, last_is_first_order=bool(last_is_first_order))


def _assemble(
    sampler: str,
    prediction: Prediction,
    steps: int,
    times: Any,
    levels: list[tuple[float, float]],
    ends: list[tuple[float, float]] | None = None,
) -> Schedule:
    """The schedule over the first `steps` of `times`, ending at the last of `levels` (alpha, sigma).

    diffusers' trailing spacing may round to one time too many (-1, after the clean end: for 61 steps of 1000);
    that one is dropped."""
    levels = [*levels[:steps], levels[-1]]
    return Schedule(
        sampler=sampler,
        prediction=prediction,
        timesteps=tuple(float(time) for time in times[:steps]),
        alphas=tuple(alpha for alpha, _ in levels),
        sigmas=tuple(sigma for _, sigma in levels),
        ends=tuple(ends or levels[1:]),
        init_noise_sigma=1.0,
    )
