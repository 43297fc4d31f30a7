"""How often the network sees the canvas, that run = plan, and that shares are even."""

from __future__ import annotations

import tempfile
import time
from math import prod
from pathlib import Path
from typing import Any

from raytile.api import plan, render
from raytile.plan.cost import foretell
from raytile.plan.phases import phases, route
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition
from tests.acceptance.common import report, say


def wish(width: int, height: int, **more: Any) -> RenderRequest:
    return RenderRequest.parse(**{"prompt": "painted earth, islands", "width": width, "height": height, **more})


def window_share(model: str, side: int, wrap: str, steps: int | None = None) -> tuple[float, float]:
    """How many times over the network sees a square canvas of one level; and the product of (n+1)/n promised."""
    settled = plan(wish(side, side, model=model, wrap=wrap, levels=1, steps=steps))
    axes = (settled.tiling.y, settled.tiling.x)
    promised = prod(1.0 if axis.wrap else 1 + settled.spec.window / axis.cells for axis in axes)
    return foretell(settled, Partition.even(1)).window_share, promised


def widest_gap(settled: Plan, workers: int) -> int:
    """The most by which two workers' windows differ at any step."""
    gap = 0
    for phase in phases(settled):
        if phase.kind == "step":
            shares = route(settled, Partition.even(workers), phase.level, phase.step).shares().tolist()
            gap = max(gap, max(shares) - min(shares))
    return gap


def run_and_plan(request: RenderRequest, workers: int, in_process: bool) -> dict[str, int]:
    """Render, and set what was counted beside what was foretold."""
    foretold = foretell(plan(request), Partition.even(workers))
    with tempfile.TemporaryDirectory() as folder:
        canvas = render(request, Path(folder, "a.zarr"), workers=workers, in_process=in_process, device="cpu")
        summary = canvas.head().summary or {}
    return {
        "evaluations": summary["evaluations"],
        "evaluations_planned": foretold.evaluations,
        "evaluations_padded": summary["evaluations_padded"],
        "evaluations_padded_planned": foretold.evaluations_padded,
        "bytes": summary["bytes_exchanged"],
        "bytes_planned": foretold.bytes,
    }


def agree(counts: dict[str, int]) -> bool:
    """Every count is the planned one."""
    return all(value == counts[f"{name}_planned"] for name, value in counts.items() if not name.endswith("_planned"))


def main() -> None:
    figures: dict[str, Any] = {}
    checks: dict[str, bool] = {}
    for side, most in ((2048, 1.27), (8192, 1.064)):
        share, promised = window_share("terra", side, "none")
        figures[f"window_share_{side}"], figures[f"promised_{side}"] = share, promised
        checks[f"{side}: at most the product, {most}"] = share <= promised + 1e-9 and share <= most
    share, _ = window_share("terra", 4096, "xy")
    figures["window_share_torus_4096"] = share
    checks["exactly 1 on a torus that windows divide"] = share == 1.0
    for workers in (1, 2):
        start = time.monotonic()
        foretell(plan(wish(65536, 65536)), Partition.even(workers))
        figures[f"plan_65536_seconds_{workers}_workers"] = seconds = round(time.monotonic() - start, 2)
        checks[f"a 65536x65536 plan for {workers} workers in under 3 s"] = seconds < 3
    for side, wrap, workers in ((2048, "none", 2), (2048, "x", 3), (4096, "xy", 5), (1000, "none", 8)):
        figures[f"gap_{side}_{wrap}_{workers}"] = gap = widest_gap(plan(wish(side, side, wrap=wrap)), workers)
        checks[f"shares differ by at most 1: {side} {wrap} {workers}"] = gap <= 1
    cases = [
        ("toy", 601, 389, "none", "shift", 3, True),
        ("toy", 600, 392, "xy", "overlap", 5, True),
        ("toy", 1200, 400, "x", "shift", 2, False),
        ("terra", 600, 392, "x", "shift", 3, True),
        ("terra", 601, 389, "none", "overlap", 2, False),
    ]
    for model, width, height, wrap, sync, workers, in_process in cases:
        request = wish(width, height, model=model, wrap=wrap, sync=sync, steps=4, seed=3)
        name = f"{model} {width}x{height} {wrap} {sync}, {workers} workers {'here' if in_process else 'on Ray'}"
        say(name)
        figures[name] = counts = run_and_plan(request, workers, in_process)
        checks[f"run = plan: {name}"] = agree(counts)
    report("evaluations: as few as promised, run = plan, even shares", checks, figures)


if __name__ == "__main__":
    main()
