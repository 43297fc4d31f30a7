"""Evaluations and bytes of every strategy: what the plan foretells is what the run counts, here and on Ray."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray

from raytile.api import plan, render
from raytile.errors import RaytileError
from raytile.plan.cost import foretell
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.core_evaluations import agree
from tests.acceptance.strategies_digests import cases, make_pictures

STEPS = 6
WAYS = (("3 here", 3, True), ("2 on Ray", 2, False))

TRIES = 8
"""Where one worker is slower than another (other work on the machine), tiles move: then more travels than was foretold
for even shares, and the run is tried again. What the run itself planned must be what it counted in any case."""


def run(request: RenderRequest, workers: int, in_process: bool) -> dict[str, int]:
    """What was counted beside what was foretold, of a render in which no tile moved."""
    foretold = foretell(plan(request), Partition.even(workers))
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as folder:
            canvas = render(request, Path(folder, "a.zarr"), workers=workers, in_process=in_process, device="cpu")
            summary = canvas.head().summary or {}
        as_begun = summary["bytes_exchanged"] == summary["bytes_planned"]
        if not (summary["moves"] and as_begun and summary["evaluations"] == foretold.evaluations):
            break
    counts = {name: summary[name] for name in ("evaluations", "evaluations_padded")}
    counts |= {f"{name}_planned": getattr(foretold, name) for name in counts}
    counts |= {"bytes": summary["bytes_exchanged"], "bytes_planned": foretold.bytes}
    return {**counts, "bytes_as_begun": int(as_begun), "bytes_as_begun_planned": 1}


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"steps": STEPS}
    with clusters.scratch(quick=False), tempfile.TemporaryDirectory() as folder:
        asked = cases(make_pictures(Path(folder)), steps=STEPS)
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
        for name, request in asked.items():
            one = foretell(plan(request), Partition.even(1))
            found: dict[str, Any] = {"window_share": round(one.window_share, 3)}
            for way, workers, in_process in WAYS:
                try:
                    found[way] = counts = run(request, workers, in_process)
                    checks[f"{name}, {way}: run = plan"] = agree(counts)
                except RaytileError as error:
                    found[way], checks[f"{name}, {way}: run = plan"] = str(error), False
            figures[name] = found
            say(name, found)
        ray.shutdown()
    report("evaluations and bytes of every strategy: plan = run", checks, figures)


if __name__ == "__main__":
    main()
