"""Unequal workers: predictions are dealt by measured speed, so a half-speed worker costs half a worker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from raytile.api import render
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters
from tests.acceptance.common import report, say

WINDOWS, SECONDS, STEPS = 12, 0.05, 60
STALL = 0.3
"""One step of two workers."""
EVERY = (84, 72)
"""Batches from stall to stall: 14 steps, and 12 on the other worker, so that they stall at different steps."""
NODES: tuple[dict[str, Any], ...] = (
    {"resources": {"alone": 1, "even": 1, "slow": 1, "one": 1}},
    {"resources": {"even": 1}},
    {"resources": {"slow": 1}, "env_vars": {"RAYTILE_TIMED_SLOWER": "2.0"}},
    {"resources": {"one": 1, "both": 1}, "env_vars": {"RAYTILE_TIMED_STUTTER": f"{EVERY[0]}:{STALL}"}},
    {"resources": {"both": 1}, "env_vars": {"RAYTILE_TIMED_STUTTER": f"{EVERY[1]}:{STALL}"}},
)
WAYS = ("alone", "even", "slow", "one", "both")
MOST = 1.15


def timed(place: str, workers: int, steps: int = STEPS) -> dict[str, Any]:
    """A ring of windows painted by the workers that have a `place`; its summary."""
    request = RenderRequest(
        prompt="", model=f"timed:seconds={SECONDS}", width=WINDOWS * 128, height=128, tile=128, wrap="x", steps=steps,
        guidance=1.0, levels=1, micro_batch=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"num_cpus": 0, "resources": {place: 1}}
        head = render(request, Path(folder, "a.zarr"), workers=workers, worker_resources=wanted, device="cpu").head()
        summary = head.summary or {}
    say(place, summary["seconds"], summary.get("busy_share"), summary.get("moves"))
    return summary


def main() -> None:
    with clusters.scratch() as place, clusters.fixed(place, [{"num_cpus": 0, **node} for node in NODES]) as cluster:
        cluster.connect()
        found = {name: timed(name, 1 if name == "alone" else 2) for name in WAYS}
    seconds = {name: summary["seconds"]["denoise"] for name, summary in found.items()}
    ideal = seconds["alone"] / 1.5
    stalls = [WINDOWS * STEPS // 2 // every for every in EVERY]
    more = {name: seconds[name] - seconds["even"] for name in ("one", "both")}
    report(
        "two workers, one at half speed; one that stutters",
        {
            f"one at half speed: at most {MOST} x the ideal of 1.5 workers": seconds["slow"] <= MOST * ideal,
            "every window is computed once": len({summary["evaluations"] for summary in found.values()}) == 1,
        },
        {
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "ideal_of_1.5": round(ideal, 2),
            "half_speed_over_ideal": round(seconds["slow"] / ideal, 3),
            "even_over_ideal_of_2": round(2 * seconds["even"] / seconds["alone"], 3),
            "stutter": {
                "one_worker": {"stalls": stalls[0], "stalled": stalls[0] * STALL, "lost": round(more["one"], 2)},
                "both_at_different_steps": {
                    "stalls": stalls,
                    "a_barrier_would_lose": round(sum(stalls) * STALL, 2),
                    "lost": round(more["both"], 2),
                },
            },
            "busy_share": {name: summary.get("busy_share") for name, summary in found.items()},
            "moves": {name: summary.get("moves") for name, summary in found.items()},
        },
    )


if __name__ == "__main__":
    main()
