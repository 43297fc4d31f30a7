"""What snapshots and the lease cost a render that nothing disturbs: the same render with and without, in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from raytile.api import make_pool, render
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters
from tests.acceptance.common import report, say

PICTURE = RenderRequest(prompt="painted earth, islands", width=2048, height=2048, levels=1, steps=16)
ROUNDS = 3
MOST = 0.02
WAYS: dict[str, dict[str, Any]] = {"with": {}, "without": {"snapshot_every": 0, "lease": 3600.0}}


def main() -> None:
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    kept: dict[str, Any] = {}
    pictures = set()
    with clusters.scratch(quick=False) as place, clusters.fixed(place, head={"num_cpus": 2}) as cluster:
        cluster.connect()
        pool = make_pool(2, address=cluster.address)
        pool.connect(2)
        for number in range(ROUNDS):
            for way in list(WAYS) if number % 2 == 0 else list(reversed(WAYS)):
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    canvas = render(PICTURE, Path(folder, "a.zarr"), pool=pool, device="cpu", **WAYS[way])
                    summary = canvas.head().summary or {}
                times[way].append(summary["seconds"]["denoise"] + summary["seconds"]["decode"])
                pictures.add(summary["pixels_sha256"])
                kept[way] = summary["snapshots"]
                say(number, way, round(times[way][-1], 2), summary["snapshots"])
        pool.close()
    best = {way: min(values) for way, values in times.items()}
    cost = best["with"] / best["without"] - 1
    report(
        "cost of snapshots and lease on an undisturbed run",
        {f"at most {MOST:.0%}": cost <= MOST, "the same picture": len(pictures) == 1,
         "snapshots were made": bool(kept["with"]["count"]), "and were off": not kept["without"]["count"]},
        {
            "cost": round(cost, 4),
            "seconds": {way: [round(value, 2) for value in values] for way, values in times.items()},
            "spread_without": round(max(times["without"]) / best["without"] - 1, 4),
            "snapshots": kept,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
