"""Over a real Ray: what the agent of the head node shows Prometheus is what the render says of itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raytile.engine.ray.draining import Cluster
from raytile.series import SERIES
from tests.acceptance import clusters

pytestmark = pytest.mark.ray
RENDER = """
import json, sys
from raytile.api import render
from raytile.plan.request import RenderRequest
wish = {"width": 640, "height": 256, "steps": 4, "model": "toy", "sync": "overlap", **json.loads(sys.argv[3])}
how = {"address": sys.argv[1], "workers": int(sys.argv[4]), "device": "cpu", "snapshot_every": 2}
canvas = render(RenderRequest.parse(prompt="a meadow", **wish), sys.argv[2], **how)
print(json.dumps({"tiles": canvas.head().tiles_total, **canvas.head().summary}))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray on which nobody else renders."""
    cluster = clusters.Nodes(tmp_path_factory.mktemp("nodes"), {"num_cpus": 2})
    yield cluster.address
    for one in cluster._cluster.list_all_nodes():
        one.kill_all_processes(check_alive=False, allow_graceful=False, wait=False)


@dataclass(frozen=True)
class Scrape:
    """What was shown at a moment; called, the sum of the series of a name with these labels."""

    samples: list[Any]

    def __call__(self, name: str, **labels: str) -> float:
        found = [one for one in self.samples if one.name == f"ray_{name}"]
        return sum(float(one.value) for one in found if labels.items() <= one.labels.items())


def scraped(address: str) -> Scrape:
    """What the one node of this Ray shows now."""
    (url,) = Cluster(address).exporters()
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    emitters = {one.labels["WorkerId"] for one in samples if one.name.startswith("ray_raytile_")}
    assert len(emitters) <= 1, "one process tells all, or series would grow with renders"
    return Scrape(samples)


def until(address: str, holds: Callable[[Scrape], bool]) -> Scrape:
    """What is shown once something holds; Ray shows what is new every ten seconds."""
    end = time.monotonic() + 240
    while not holds(shown := scraped(address)):
        assert time.monotonic() < end, "metrics do not say so"
        time.sleep(0.5)
    return shown


def driver(address: str, out: Path, workers: int, **wish: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RENDER, address, str(out), json.dumps(wish), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_prometheus_sees_is_the_summary_of_the_render(alone: str, tmp_path: Path) -> None:
    said = driver(alone, tmp_path / "c.zarr", 2).communicate(timeout=120)[0]
    summary: dict[str, Any] = json.loads(said.splitlines()[-1])
    more = after = until(alone, lambda now: now("raytile_renders_ended_total", state="finished") > 0)
    assert more("raytile_renders_ended_total") == 1
    assert more("raytile_evaluations_total", model="toy") == summary["evaluations"] > 0
    assert more("raytile_exchanged_bytes_total") == summary["bytes_exchanged"] > 0
    assert more("raytile_pixels_total", model="toy") == 640 * 256
    assert more("raytile_tiles_total") == summary["tiles"]
    assert more("raytile_snapshots_total") == summary["snapshots"]["count"]
    assert more("raytile_snapshot_bytes_total") == summary["snapshots"]["bytes"]
    assert more("raytile_worker_busy_seconds_total") == pytest.approx(sum(summary["busy_seconds"]), rel=0.2)
    assert more("raytile_render_seconds_count", state="finished") == 1
    assert after("raytile_renders") == 0
    counters = {f"ray_{name}" for name, one in SERIES.items() if one.kind == "counter" and not one.late}
    assert counters <= {one.name for one in after.samples}, "what never happened is 0, and not missing"


def test_a_driver_that_is_killed_leaves_nothing_running(alone: str, tmp_path: Path) -> None:
    killed = driver(alone, tmp_path / "a.zarr", 1, width=2048, height=1024, steps=90)
    try:
        until(alone, lambda now: now("raytile_workers", state="working") == 1)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    until(alone, lambda now: now("raytile_renders") == now("raytile_workers") == 0)
