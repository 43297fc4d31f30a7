"""Same request, same picture: digests in one process and on Ray, whatever the number of workers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raytile.api import render
from raytile.events import Event, StepDone
from raytile.plan.request import RenderRequest
from tests.acceptance.common import report, say

WORKERS = (1, 2, 3, 5)
# Off every stride and tile, and on no window; a wrapped side must be a multiple of the latent factor.
SIZES = {"toy": ((601, 389), (600, 392)), "terra": ((601, 389), (600, 392)), "sd": ((93, 61), (92, 60))}


def requests(model: str, name: str, steps: int = 4) -> Iterable[tuple[str, RenderRequest]]:
    """Shift and overlap, on a plane and wrapped."""
    plane, wrapped = SIZES[name]
    for sync in ("shift", "overlap"):
        for wrap, (width, height) in (("none", plane), ("xy", wrapped)):
            wish = {"prompt": "a red cat", "width": width, "height": height, "model": model, "steps": steps}
            request = RenderRequest.parse(**wish, sync=sync, wrap=wrap, seed=5)
            yield f"{name} {sync} {wrap} {width}x{height}", request


def digests(request: RenderRequest, workers: int, in_process: bool, **more: Any) -> str:
    """Latents' and pixels' digests of a render, in one word."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "a.zarr")
        canvas = render(request, out, workers=workers, in_process=in_process, device="cpu", **more)
        summary = canvas.head().summary or {}
        if canvas.digests() != (summary["latents_sha256"], summary["pixels_sha256"]):
            return "the summary's digests are not those of the canvas"
    return f"{summary['latents_sha256']} {summary['pixels_sha256']}"


def compare(request: RenderRequest, workers: Iterable[int]) -> dict[str, str]:
    """The digests by who painted. Ray must be running, or one is started for each."""
    found = {}
    for count in workers:
        found[f"{count} here"] = digests(request, count, True)
        found[f"{count} on Ray"] = digests(request, count, False)
    return found


def on_logical_gpus(request: RenderRequest, gpus: int) -> dict[str, Any]:
    """Render with workers that ask for a GPU each, on a Ray that says it has `gpus`; what was free meanwhile."""
    import ray

    free: list[float] = []

    def look(event: Event) -> None:
        if isinstance(event, StepDone):
            free.append(ray.available_resources().get("GPU", 0.0))

    ray.init(address="local", num_cpus=gpus, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            canvas = render(request, Path(folder, "a.zarr"), device="cpu", listeners=[look])
            summary = canvas.head().summary or {}
    finally:
        ray.shutdown()
    return {
        "workers": summary["workers"],
        "gpus_free": min(free),
        "digests": f"{summary['latents_sha256']} {summary['pixels_sha256']}",
    }


def main() -> None:
    import ray

    from tests.models.make_tiny import tiny_stable_diffusion

    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {}
    asked = sys.argv[1:] or list(SIZES)
    with tempfile.TemporaryDirectory() as folder:
        sd = str(tiny_stable_diffusion(Path(folder, "sd")))
        ray.init(address="local", num_cpus=max(WORKERS), num_gpus=0, include_dashboard=False, log_to_driver=False)
        for name in asked:
            for title, request in requests(sd if name == "sd" else name, name):
                found = compare(request, WORKERS)
                say(title, found)
                figures[title] = sorted(set(found.values()))
                checks[f"{title}: one digest"] = len(figures[title]) == 1
        ray.shutdown()
    request = RenderRequest(prompt="a red cat", width=601, height=389, model="toy", seed=5, steps=4)
    figures["four_logical_gpus"] = placed = on_logical_gpus(request, 4)
    checks["four workers ask for a GPU each and are placed"] = placed["workers"] == 4 and placed["gpus_free"] == 0
    checks["and paint the same picture"] = placed["digests"] == digests(request, 1, True)
    report("digests are equal for 1, 2, 3, 5 workers, in this process and on Ray", checks, figures)


if __name__ == "__main__":
    main()
