"""The plain pipeline: one window, one loop, no tiles. What a canvas of one window must equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raytile.sampling import SAMPLERS, Memory, needs_noise, scale_input, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from raytile.models.base import Module


def reference(
    module: Module,
    prompt: str,
    noise: Tensor,
    *,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    sampler: str | None = None,
    fresh_noise: Callable[[int], Tensor] | None = None,
    control: Tensor | None = None,
) -> Tensor:
    """Pixels [3, H, W] in [-1, 1], unclamped, from unit `noise` [channels, h, w] (one window, or any size the network
    takes at once). What is None takes the model's default; `fresh_noise(step)` is asked by ancestral samplers.
    `control` [1, H, W] in [0, 1] steers a model that can be steered, with the prompt and without it.

    Guidance is classifier-free (Ho and Salimans 2022, arXiv 2207.12598), in the steps i of n with
    a <= i / n < b of `guidance_interval` (Kynkaanniemi et al. 2024, arXiv 2404.07724)."""
    import torch

    spec = module.spec
    schedule = module.schedule(sampler or spec.default_sampler, steps or spec.default_steps)
    scale = spec.default_guidance if guidance is None else guidance
    first, last = guidance_interval or spec.guidance_interval
    without, wanted = module.encode_prompts([negative, prompt])
    x: Tensor = start(noise, schedule)[None]
    one = None if control is None else control[None]
    two = None if one is None else torch.cat([one, one])
    memory: Memory = ()
    for step, time in enumerate(schedule.timesteps):
        shown = scale_input(x, step, schedule)
        guided = scale > 1 and first <= step / schedule.steps < last
        if guided:
            both = module.predict(torch.cat([shown, shown]), time, [without, wanted], two)
            prediction = both[:1] + scale * (both[1:] - both[:1])
        else:
            prediction = module.predict(shown, time, [wanted], one)
        fresh = fresh_noise(step)[None] if fresh_noise and needs_noise(schedule, step) else None
        x, memory = SAMPLERS[schedule.sampler](x, prediction, step, memory, schedule, fresh)
    return module.decode(x[0])
