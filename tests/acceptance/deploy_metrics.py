"""A real Prometheus scrapes a real Ray: a service and a render of its own, with a worker and drivers killed in them.
Every expression of the dashboards and the alerts parses, every panel's query returns data, the numbers are those of the
renders, and there are no more series after fifty renders than after ten.

Wants `prometheus` beside the interpreter or on PATH (`make promtool` puts it there)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import promql_parser

from dashboards.queries import alert_queries, board_queries
from raytile.engine.ray.draining import Cluster
from raytile.series import SERIES
from tests.acceptance import clusters, services
from tests.acceptance.common import ROOT, report, say

FIRST, RENDERS = 10, 50
EVERY = 2
"""Seconds from scrape to scrape."""
LONG = {"prompt": "b", "width": 1024, "height": 768, "steps": 96, "model": "toy", "levels": 1, "sync": "overlap"}
SMALL = {"prompt": "c", "width": 64, "height": 64, "steps": 2, "model": "toy"}
OF_A_GPU = "ray_node_gpus"
"""Where there is no GPU, Ray shows no series of GPUs: the one thing that need not return data."""


class Prometheus:
    """A Prometheus that scrapes these addresses, with the alerts of the dashboards."""

    def __init__(self, place: Path, exporters: list[str]) -> None:
        self.url = f"http://127.0.0.1:{clusters.free_port()}"
        config = {
            "global": {"scrape_interval": f"{EVERY}s", "evaluation_interval": "5s"},
            "rule_files": [str(ROOT / "dashboards" / "alerts.yaml")],
            "scrape_configs": [
                {
                    "job_name": "ray",
                    "static_configs": [
                        {
                            "targets": [url.removeprefix("http://").removesuffix("/metrics") for url in exporters],
                            "labels": {"namespace": "here", "ray_io_cluster": "accepted"},
                        }
                    ],
                }
            ],
        }
        self.empty = board_queries("5m", "1h")
        file = place / "prometheus.json"
        file.write_text(json.dumps(config))  # which is YAML
        beside = Path(sys.executable).parent / "prometheus"
        program = str(beside) if beside.exists() else shutil.which("prometheus")
        assert program, "no prometheus: make promtool"
        listen = self.url.removeprefix("http://")
        with open(place / "prometheus.log", "w") as log:
            self.process = subprocess.Popen(
                [program, f"--config.file={file}", f"--storage.tsdb.path={place / 'tsdb'}",
                 f"--web.listen-address={listen}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._client = httpx2.Client(base_url=self.url, timeout=30.0)
        clusters.wait_for(self._ready, 60, lambda: (place / "prometheus.log").read_text()[-2000:])

    def look(self) -> None:
        """See which queries that had no data yet have some now."""
        self.empty = [one for one in self.empty if not self.ask(one.expression)]

    def wait(self, service: services.Service, holds: Callable[[], bool]) -> None:
        """Until something holds; clients ask the service meanwhile, and somebody looks at the dashboards."""
        end = time.monotonic() + 600
        while not holds():
            assert time.monotonic() < end, f"it never was so: {service.stats()}"
            service.client.get("/v1/renders")
            self.look()
            time.sleep(EVERY)
        self.look()

    def _ready(self) -> bool:
        try:
            return bool(self._client.get("/-/ready").status_code == 200)
        except httpx2.HTTPError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now; raises where Prometheus does not understand it."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        found = answer["data"]["result"]
        return found if answer["data"]["resultType"] == "vector" else [{"value": found}]

    def value(self, expression: str) -> float:
        """The sum of what it gives."""
        return sum(float(one["value"][1]) for one in self.ask(expression))


@contextmanager
def watching(place: Path, exporters: list[str]) -> Iterator[Prometheus]:
    prometheus = Prometheus(place, exporters)
    try:
        yield prometheus
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(20)


def own(address: str, out: Path, workers: int = 1, **wish: Any) -> subprocess.Popen[bytes]:
    """A render of its own, in a process that is a driver of the Ray at `address`."""
    code = (
        "import sys, json; from raytile.api import render; from raytile.plan.request import RenderRequest\n"
        "address, out, workers, wish = sys.argv[1:]\n"
        "render(RenderRequest.parse(**json.loads(wish)), out, address=address, workers=int(workers), device='cpu',"
        " worker_resources={'num_cpus': 0.5}, snapshot_every=4)"
    )
    told = [address, str(out), str(workers), json.dumps(wish)]
    return subprocess.Popen([sys.executable, "-c", code, *told], stdout=subprocess.DEVNULL)


def live(service: services.Service, prometheus: Prometheus, address: str, place: Path) -> int:
    """Something of everything, while all of it is there: renders of a service and of their own, a worker and two
    drivers killed. Returns how many have finished."""
    ids = [service.paint(**SMALL)]  # by itself: of a histogram that begins with its only value, no rate is known
    prometheus.wait(service, lambda: service.states()["finished"] == 1)
    prometheus.wait(service, lambda: prometheus.value("ray_raytile_queue_wait_seconds_count") == 1)
    prometheus.wait(service, lambda: not service.pids("worker"))
    other = own(address, place / "own.zarr", 2, **LONG)
    prometheus.wait(service, lambda: prometheus.value('ray_raytile_worker_steps_total{slot="1"}') >= 4)
    service.kill("worker")  # the service has none now
    say("a worker is dead")
    ids += [service.paint(**{**LONG, "seed": seed}) for seed in range(2)]
    doomed = own(address, place / "doomed.zarr", **LONG)
    prometheus.wait(service, lambda: prometheus.value('ray_raytile_workers{state="working"}') >= 2)
    service.kill("driver")
    doomed.kill()
    doomed.wait()
    say("two drivers are dead")
    service.client.get("/v1/renders/none")
    prometheus.wait(service, lambda: service.states()["finished"] == len(ids))
    assert other.wait(600) == 0, "the render of its own failed"
    return len(ids) + 1


def fleeting(address: str, place: Path, first: int, last: int) -> None:
    """Small renders, each in a process of its own that is gone after it."""
    for number in range(first, last, 2):
        two = [own(address, place / f"small-{one}.zarr", **SMALL, seed=one) for one in (number, number + 1)]
        assert [one.wait(300) for one in two] == [0, 0]
        say(f"{number + 2} renders")


def settled(prometheus: Prometheus, renders: float) -> int:
    """How many series of raytile there are once so many renders have ended, and nothing is left of them."""
    ended = 'sum(ray_raytile_renders_ended_total{state="finished"})'
    clusters.wait_for(lambda: prometheus.value(ended) >= renders, 120)
    clusters.wait_for(lambda: prometheus.value('count(ray_raytile_worker_memory_bytes{slot!=""})') == 0, 120)
    return int(prometheus.value('count({__name__=~"ray_raytile_.+"})'))


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"load": os.getloadavg()[0]}
    with clusters.scratch() as place:
        os.environ["RAYTILE_PRICE_PER_WORKER_HOUR"] = "1.2"
        settings = {"RAYTILE_PREVIEW_EVERY": "4", "RAYTILE_WARM_IDLE_S": "20"}
        with (
            clusters.fixed(place, [{"num_cpus": 4}]) as cluster,
            services.serving(place, place / "store", 2, RAY_ADDRESS=cluster.address, **settings) as service,
            watching(place, Cluster(cluster.address).exporters()) as prometheus,
        ):
            begun = time.monotonic()
            renders = live(service, prometheus, cluster.address, place)
            ended = 'sum(ray_raytile_renders_ended_total{state="finished"})'
            prometheus.wait(service, lambda: prometheus.value(ended) >= renders)
            prometheus.wait(service, lambda: prometheus.value("ray_raytile_renders") == 0)
            figures["life_seconds"] = round(time.monotonic() - begun, 1)
            queries, alerts, empty = board_queries("5m", "1h"), alert_queries(), prometheus.empty
            for query in (*queries, *alerts):
                promql_parser.parse(query.expression)
                prometheus.ask(query.expression)
            figures["queries"], figures["alerts"] = len(queries), len(alerts)
            figures["empty"] = [f"{one.where}: {one.panel}: {one.expression}" for one in empty]
            checks["every query returns data"] = not [one for one in empty if OF_A_GPU not in one.expression]
            shown = {one["metric"]["__name__"] for one in prometheus.ask('{__name__=~"ray_raytile_.+"}')}
            missing = [n for n in SERIES if f"ray_{n}" not in shown and f"ray_{n}_bucket" not in shown]
            figures["missing"] = missing
            checks["every series is there, that of memory while there are workers"] = missing in (
                [], ["raytile_worker_memory_bytes"],
            )  # fmt: skip

            pixels = 3 * 1024 * 768 + 64 * 64
            figures["pixels"], figures["pixels painted"] = prometheus.value("sum(ray_raytile_pixels_total)"), pixels
            checks["pixels are those of the renders, and what dead drivers painted"] = figures["pixels"] >= pixels
            lost = prometheus.value('sum(ray_raytile_worker_changes_total{kind="lost"})')
            checks["the lost are counted"] = lost >= 1
            checks["and the roll-backs"] = prometheus.value("sum(ray_raytile_rollbacks_total)") >= 1
            checks["and the bytes"] = prometheus.value("sum(ray_raytile_exchanged_bytes_total)") > 0
            checks["and the cost"] = prometheus.value("sum(ray_raytile_cost_total)") > 0
            finished = prometheus.value('sum(ray_raytile_renders_ended_total{state="finished"})')
            checks["renders ended as they did"] = finished == renders
            figures["processes that tell"] = len(prometheus.ask('group by (WorkerId) ({__name__=~"ray_raytile_.+"})'))
            checks["one process tells all"] = figures["processes that tell"] == 1

            fleeting(cluster.address, place, 0, FIRST)
            figures[f"series after {FIRST}"] = settled(prometheus, finished + FIRST)
            fleeting(cluster.address, place, FIRST, RENDERS)
            figures[f"series after {RENDERS}"] = settled(prometheus, finished + RENDERS)
            checks["series stay as many"] = figures[f"series after {RENDERS}"] <= figures[f"series after {FIRST}"]
            figures["series of all Ray"] = int(prometheus.value('count({__name__=~"ray_.+"})'))
    report("dashboards and alerts on a real Prometheus", checks, figures)


if __name__ == "__main__":
    main()
