"""Unequal workers: predictions are dealt by measured speed, so a half-speed worker costs half a worker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from raytile.api import render
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters
from tests.acceptance.common import report, say

WINDOWS, SECONDS, STEPS = 18, 0.05, 36
STUTTER = "84:1.0"
NODES: tuple[dict[str, Any], ...] = (
    {"resources": {"alone": 1, "even": 1, "slow": 1, "stutter": 1}},
    {"resources": {"even": 1}},
    {"resources": {"slow": 1}, "env_vars": {"RAYTILE_TIMED_SLOWER": "2.0"}},
    {"resources": {"stutter": 1}, "env_vars": {"RAYTILE_TIMED_STUTTER": STUTTER}},
)
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
        found = {name: timed(name, 1 if name == "alone" else 2) for name in ("alone", "even", "slow", "stutter")}
    seconds = {name: summary["seconds"]["denoise"] for name, summary in found.items()}
    ideal = seconds["alone"] / 1.5
    stalls = WINDOWS * STEPS / 2 // int(STUTTER.partition(":")[0]) * float(STUTTER.partition(":")[2])
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
                "every_and_seconds": STUTTER,
                "stalled_seconds_of_an_even_share": stalls,
                "seconds_more_than_two_even_workers": round(seconds["stutter"] - seconds["even"], 2),
            },
            "busy_share": {name: summary.get("busy_share") for name, summary in found.items()},
            "moves": {name: summary.get("moves") for name, summary in found.items()},
        },
    )


if __name__ == "__main__":
    main()
