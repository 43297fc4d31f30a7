"""How a finer level is led by the one before: weights over its steps (DemoFusion, Du et al. 2024, arXiv 2311.16973)."""

from __future__ import annotations

import math


def decay(step: int, steps: int) -> float:
    """f, from 1 at the first step of the schedule to nearly 0 at its last: half a cosine wave."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def skip_weight(step: int, steps: int) -> float:
    """c1 = f^3: how much of the noised clean start there is in the latents at the start of `step`."""
    return decay(step, steps) ** 3


def dilated_weight(step: int, steps: int) -> float:
    """c2 = f: how much of a prediction the thinned-out windows have."""
    return decay(step, steps)


def blur(step: int, steps: int) -> float:
    """c3 = 0.99 f + 0.01: the standard deviation, in cells, of the filter before thinning out."""
    return 0.99 * decay(step, steps) + 0.01
