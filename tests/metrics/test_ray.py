"""Over a real Ray: what the agent of the head node shows Prometheus is what the render says of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raytile.api import render
from raytile.plan.request import RenderRequest
from raytile.series import SERIES

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@dataclass(frozen=True)
class Scrape:
    """What was shown at a moment; called, the sum of the series of a name with these labels."""

    samples: list[Any]

    def __call__(self, name: str, **labels: str) -> float:
        found = [one for one in self.samples if one.name == f"ray_{name}"]
        return sum(float(one.value) for one in found if labels.items() <= one.labels.items())


def scraped() -> Scrape:
    """What the one node of this Ray shows now."""
    import ray

    (node,) = ray.nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    emitters = {one.labels["WorkerId"] for one in samples if one.name.startswith("ray_raytile_")}
    assert len(emitters) <= 1, "one process tells all, or series would grow with renders"
    return Scrape(samples)


def until(holds: Callable[[Scrape], bool]) -> Scrape:
    """What is shown once something holds; Ray shows what is new every ten seconds."""
    end = time.monotonic() + 240
    while not holds(shown := scraped()):
        assert time.monotonic() < end, "metrics do not say so"
        time.sleep(0.5)
    return shown


def test_what_prometheus_sees_is_the_summary_of_the_render(tmp_path: Path) -> None:
    before = scraped()
    request = RenderRequest.parse(prompt="a meadow", width=640, height=256, steps=4, model="toy", sync="overlap")
    canvas = render(request, tmp_path / "c.zarr", workers=2, device="cpu", snapshot_every=2)
    summary: dict[str, Any] = canvas.head().summary or {}
    ended = before("raytile_renders_ended_total", state="finished")
    after = until(lambda now: now("raytile_renders_ended_total", state="finished") > ended)

    def more(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    assert more("raytile_renders_ended_total") == 1
    assert more("raytile_evaluations_total", model="toy") == summary["evaluations"] > 0
    assert more("raytile_exchanged_bytes_total") == summary["bytes_exchanged"] > 0
    assert more("raytile_pixels_total", model="toy") == 640 * 256
    assert more("raytile_tiles_total") == canvas.head().tiles_total
    assert more("raytile_snapshots_total") == summary["snapshots"]["count"]
    assert more("raytile_snapshot_bytes_total") == summary["snapshots"]["bytes"]
    assert more("raytile_worker_busy_seconds_total") == pytest.approx(sum(summary["busy_seconds"]), rel=0.2)
    assert more("raytile_render_seconds_count", state="finished") == 1
    assert after("raytile_renders") == 0
    counters = {f"ray_{name}" for name, one in SERIES.items() if one.kind == "counter" and not one.late}
    assert counters <= {one.name for one in after.samples}, "what never happened is 0, and not missing"


def test_a_driver_that_is_killed_leaves_nothing_running(ray_cluster: str, tmp_path: Path) -> None:
    code = (
        f"import ray; ray.init(address={ray_cluster!r}, log_to_driver=False)\n"
        "from raytile.api import render; from raytile.plan.request import RenderRequest\n"
        "wish = RenderRequest(prompt='x', width=2048, height=1024, model='toy', steps=90)\n"
        f"render(wish, {str(tmp_path / 'a.zarr')!r}, workers=1, device='cpu')\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda now: now("raytile_workers", state="working") == 1)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    until(lambda now: now("raytile_renders") == now("raytile_workers") == 0)
