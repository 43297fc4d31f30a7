"""Whether lines show in a finished picture where tiles end, and windows of the last steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytile.api import plan
from raytile.geometry.axis import shifted_spans
from raytile.plan.request import RenderRequest
from tests.acceptance.measures import line_ratios

Lines = tuple[set[int], set[int]]
"""Columns and rows, in pixels."""
PHASE = 32
"""Pixels of a latent cell times the network's stride: lines are compared with lines of this phase."""
PIECE = 1024
LAST = 3
"""Of so many steps the windows are looked at."""


def edges(request: RenderRequest) -> dict[str, Lines]:
    """Where tiles end; and windows of one level, in each of the last steps."""
    settled = plan(request)
    level, factor, tile = len(settled.levels) - 1, settled.spec.factor, settled.request.tile or 0
    tiling, found = (
        settled.tiling,
        {"tiles": (set(range(0, request.width, tile)), set(range(tile, request.height, tile)))},
    )
    for step in range(settled.steps - LAST, settled.steps):
        y, x = settled.offset(level, step)
        spans = shifted_spans(tiling.x, settled.spec.window, x), shifted_spans(tiling.y, settled.spec.window, y)
        columns, rows = ({factor * int(start) for start, _ in along} for along in spans)
        found[f"windows, {settled.steps - step} before the end"] = columns, rows
    return found


def lines_apart(picture: NDArray[Any], at: dict[str, Lines], moments: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Steps across edges over those of the nearest lines of their phase, and the same of lines that are none of them,
    with 95 % of their bootstrapped means. Lines are cut into pieces of 1,024 pixels; columns wrap."""
    height, width = picture.shape[:2]
    known = [set().union(*(each[axis] for each in at.values())) for axis in (0, 1)]
    sides = [range(0, width, PHASE), range(PHASE, height - PHASE + 1, PHASE)]
    placebo = tuple(set(side) - taken for side, taken in zip(sides, known, strict=True))
    found: dict[str, Any] = {}
    rolled = PHASE * (width // PHASE // 2)
    turns = (np.roll(picture, rolled, axis=1), rolled), (picture.swapaxes(0, 1), 0)
    for name, lines in {**at, "placebo": placebo}.items():
        ratios: list[float] = []
        for axis, (turned, moved) in enumerate(turns):
            usable = sorted((line + moved) % turned.shape[1] for line in lines[axis])
            usable = [line for line in usable if PHASE <= line <= turned.shape[1] - PHASE]
            for top in range(0, turned.shape[0] - PIECE + 1, PIECE):
                ratios.extend(line_ratios(turned[top : top + PIECE], usable, PHASE))
        found[name] = _interval(ratios, moments)
    return found


def _interval(values: list[float], moments: np.random.Generator) -> dict[str, Any]:
    drawn = moments.choice(np.array(values), (2000, len(values))).mean(1)
    low, high = np.percentile(drawn, 2.5), np.percentile(drawn, 97.5)
    return {
        "lines": len(values), "mean": round(float(np.mean(values)), 3), "worst": round(max(values), 3),
        "from": round(float(low), 3), "to": round(float(high), 3),
        "p2.5": round(float(np.percentile(values, 2.5)), 3), "p97.5": round(float(np.percentile(values, 97.5)), 3),
    }  # fmt: skip
