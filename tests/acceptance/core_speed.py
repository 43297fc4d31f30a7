"""Speed on this machine: one Ray worker beside a bare loop, two beside one; then the timed module with 8 and 16."""

from __future__ import annotations

import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from raytile.api import plan, render
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from tests.acceptance.common import report, say

PICTURE = RenderRequest(prompt="painted earth, islands", width=2048, height=2048, steps=3, levels=1)
ROUNDS = 2
STEPS = 20


def bare(settled: Plan) -> float:
    """Seconds for the network alone: the same windows at the same steps, in the same micro-batches, one thread."""
    import torch

    from raytile.models import registry

    torch.set_num_threads(1)
    module = registry.load(settled.spec)
    schedule = module.schedule(settled.sampler, settled.steps)
    words = module.encode_prompts([settled.levels[0].prompt])
    size, batch = settled.spec.window, settled.micro_batch
    x = torch.randn(batch, settled.spec.channels, size, size)
    with torch.inference_mode():
        module.predict(x, schedule.timesteps[0], words * batch)
        start = time.perf_counter()
        for step in range(settled.steps):
            rows = int(settled.rows(0, step).sum())
            for _ in range(-(-rows // batch)):
                module.predict(x, schedule.timesteps[step], words * batch)
        return time.perf_counter() - start


def bare_pair(settled: Plan) -> float:
    """What this machine gives two bare loops that run at once: the slower one's seconds, for as much work as one's.

    Processors that share caches, clocks or execution units give less than twice one."""
    with get_context("spawn").Pool(2) as two:
        return max(two.map(bare, [settled, settled], chunksize=1)) / 2


def denoising(request: RenderRequest, workers: int) -> dict[str, Any]:
    """A render on the Ray that is running; its summary, and the driver's processor seconds."""
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        summary = render(request, Path(folder, "a.zarr"), workers=workers, device="cpu").head().summary or {}
        return {**summary, "driver_cpu": time.process_time() - before}


def timed(workers: int) -> dict[str, float]:
    """A ring of `workers`, four windows each, 0.25 s a window +-20 %: a step would take 1 s if nobody ever waited."""
    request = RenderRequest(
        prompt="", model="timed:seconds=0.25,jitter=0.2", width=workers * 4 * 128, height=128, tile=256, wrap="x",
        steps=STEPS, guidance=1.0, levels=1, micro_batch=1,
    )  # fmt: skip
    summary = denoising(request, workers)
    return {
        "seconds_a_step": summary["seconds"]["denoise"] / STEPS,
        "efficiency": STEPS / summary["seconds"]["denoise"],
        "driver_cpu_ms_per_worker_and_step": 1000 * summary["driver_cpu"] / STEPS / workers,
        "bytes_a_step": summary["bytes_exchanged"] / STEPS,
    }


def main() -> None:
    import ray

    settled = plan(PICTURE)
    alone: dict[str, list[float]] = {"bare": [], "bare_pair": [], "one": [], "two": []}
    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="error")
    for number in range(ROUNDS):
        alone["bare"].append(bare(settled))
        alone["bare_pair"].append(bare_pair(settled))
        alone["one"].append(denoising(PICTURE, 1)["seconds"]["denoise"])
        alone["two"].append(denoising(PICTURE, 2)["seconds"]["denoise"])
        say(number, {name: round(values[-1], 2) for name, values in alone.items()})
    best = {name: min(values) for name, values in alone.items()}
    ring = {workers: timed(workers) for workers in (8, 16)}
    ray.shutdown()
    one, two = best["bare"] / best["one"], best["one"] / best["two"]
    report(
        "seconds beside a bare loop, speed-up with workers, cost of orchestration",
        {"one worker: at least 0.90 of a bare loop": one >= 0.90, "two workers: at least 1.75 of one": two >= 1.75},
        {
            "seconds": {name: [round(v, 2) for v in values] for name, values in alone.items()},
            "one_worker_efficiency": round(one, 3),
            "two_workers_speedup": round(two, 3),
            "two_bare_loops_speedup": round(best["bare"] / best["bare_pair"], 3),
            "timed_ring": {n: {k: round(v, 3) for k, v in figures.items()} for n, figures in ring.items()},
        },
    )


if __name__ == "__main__":
    main()
