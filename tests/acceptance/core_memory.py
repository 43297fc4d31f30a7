"""The driver's memory does not grow with the canvas: 1024x1024 beside 8192x8192, one step, on Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.acceptance.common import report

MEGABYTE = 2**20
RUN = """
import json, sys
from raytile.api import render
from raytile.plan.request import RenderRequest
side, out, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
request = RenderRequest(prompt="sea", width=side, height=side, steps=1, levels=1, model=model)
canvas = render(request, out, workers=2, device="cpu")
from raytile.engine.memory import peak_rss_bytes
rss = peak_rss_bytes()
print(json.dumps({"driver": rss, "workers": canvas.head().summary["peak_rss_bytes"]["workers"],
                  "torch": "torch" in sys.modules}))
"""


def main() -> None:
    seen: dict[int, dict[str, Any]] = {}
    for side in (1024, 8192):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", RUN, str(side), str(Path(folder, "a.zarr")), "toy"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seen[side] = json.loads(done.stdout.splitlines()[-1])
    growth = (seen[8192]["driver"] - seen[1024]["driver"]) / MEGABYTE
    workers = (max(seen[8192]["workers"]) - max(seen[1024]["workers"])) / MEGABYTE
    report(
        "the driver's memory does not grow with the canvas",
        {"driver grows by less than 100 MB": growth < 100, "no torch in the driver": not seen[8192]["torch"]},
        {
            "driver_mb": {side: round(run["driver"] / MEGABYTE, 1) for side, run in seen.items()},
            "worker_mb": {side: round(max(run["workers"]) / MEGABYTE, 1) for side, run in seen.items()},
            "driver_growth_mb": round(growth, 1),
            "worker_growth_mb": round(workers, 1),
        },
    )


if __name__ == "__main__":
    main()
