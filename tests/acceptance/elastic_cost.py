"""What snapshots and the lease cost a render that nothing disturbs: the same render with and without, in turn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from raytile.api import make_pool, render
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import Watch

PICTURE = RenderRequest(prompt="painted earth, islands", width=2048, height=2048, levels=1, steps=8)
ROUNDS = 6
"""Many short pairs rather than few long ones: on a machine with other work the best of each is the least disturbed."""
MOST = 0.02
WAYS: dict[str, dict[str, Any]] = {"with": {}, "without": {"snapshot_every": 0, "lease": 3600.0}}


def seconds(pids: Collection[int]) -> float:
    """Processor time that these processes, and this one, have used."""
    used = [psutil.Process(pid).cpu_times() for pid in (*pids, os.getpid())]
    return sum(times.user + times.system for times in used)


def main() -> None:
    wall: dict[str, list[float]] = {way: [] for way in WAYS}
    processor: dict[str, list[float]] = {way: [] for way in WAYS}
    kept: dict[str, Any] = {}
    pictures = set()
    with clusters.scratch(quick=False) as place, clusters.fixed(place, head={"num_cpus": 2}) as cluster:
        cluster.connect()
        pool = make_pool(2, address=cluster.address)
        pool.connect(2)
        watch = Watch()
        warm = PICTURE.model_copy(update={"steps": 1, "width": 512})
        render(warm, place / "warm.zarr", pool=pool, device="cpu", listeners=[watch])
        for number in range(ROUNDS):
            for way in list(WAYS) if number % 2 == 0 else list(reversed(WAYS)):
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    before = seconds(watch.pids.values())
                    canvas = render(PICTURE, Path(folder, "a.zarr"), pool=pool, device="cpu", **WAYS[way])
                    processor[way].append(seconds(watch.pids.values()) - before)
                    summary = canvas.head().summary or {}
                wall[way].append(summary["seconds"]["denoise"] + summary["seconds"]["decode"])
                pictures.add(summary["pixels_sha256"])
                kept[way] = summary["snapshots"]
                say(number, way, round(wall[way][-1], 2), round(processor[way][-1], 2), summary["snapshots"])
        pool.close()
    cost, cost_processor = (min(found["with"]) / min(found["without"]) - 1 for found in (wall, processor))
    report(
        "cost of snapshots and lease on an undisturbed run",
        {f"at most {MOST:.0%}": cost <= MOST, "the same picture": len(pictures) == 1,
         "snapshots were made": bool(kept["with"]["count"]), "and were off": not kept["without"]["count"]},
        {
            "cost": round(cost, 4),
            "cost_in_processor_seconds": round(cost_processor, 4),
            "seconds": {way: [round(value, 2) for value in values] for way, values in wall.items()},
            "processor_seconds": {way: [round(value, 2) for value in values] for way, values in processor.items()},
            "snapshots": kept,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
