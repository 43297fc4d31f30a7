"""Evaluations and bytes of every strategy: what the plan foretells is what the run counts, here and on Ray."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray

from raytile.api import plan
from raytile.errors import RaytileError
from raytile.plan.cost import foretell
from raytile.plan.route import Partition
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.core_evaluations import agree, run_and_plan
from tests.acceptance.strategies_digests import cases, make_pictures

STEPS = 6
WAYS = (("3 here", 3, True), ("2 on Ray", 2, False))


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
                    found[way] = counts = run_and_plan(request, workers, in_process)
                    checks[f"{name}, {way}: run = plan"] = agree(counts)
                except RaytileError as error:
                    found[way], checks[f"{name}, {way}: run = plan"] = str(error), False
            figures[name] = found
            say(name, found)
        ray.shutdown()
    report("evaluations and bytes of every strategy: plan = run", checks, figures)


if __name__ == "__main__":
    main()
