"""The chart's RayCluster under Ray's own autoscaler, its configuration derived by Ray's KubeRay code, only the provider
swapped: from no node to the most and back, around a render and a burst of requests, a node preempted in each."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.acceptance import charts, clusters
from tests.acceptance.common import report, say
from tests.acceptance.elastic_autoscaler import busy, empty
from tests.acceptance.services import digest_alone
from tests.acceptance.watch import picture, words

VALUES = "spot-64"
SPOT, STEADY = 2, 1
"""The most nodes of each kind here."""
MOST = SPOT + STEADY
IDLE = 10
STEPS = int(os.environ.get("RAYTILE_AUTOSCALER_STEPS", "400"))
NOTICE = 30.0
BURST = 12
WISH = {"prompt": "islands", "size": "768x768", "steps": 100, "model": "toy"}


def changes() -> dict[str, Any]:
    """What is changed in the chart's values: small numbers."""
    groups = charts.examples()[VALUES]["workers"]
    few = {name: {"maxReplicas": SPOT if "spot" in name else STEADY, "idleTimeoutSeconds": IDLE} for name in groups}
    settings = {"models": {"toy": "toy"}, "warm_idle_s": 3}
    return {"workers": few, "service": {"settings": settings}}


def wait_used(process: Any, log: Path) -> None:
    """Until workers have joined the render."""
    clusters.wait_for(lambda: process.poll() is not None or f"{MOST} workers" in log.read_text(), 120)


def one_render(cluster: clusters.Autoscaling, place: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    request = picture(steps=STEPS)
    common = (
        "--address",
        cluster.address,
        "--workers",
        f"1..{MOST}",
        "--worker-resources",
        '{"num_gpus": 1}',
        "--json",
    )
    start = time.monotonic()
    log = place / "a.log"
    with clusters.driver(*words(request, place / "a.zarr", *common), log=log) as process:
        coming = cluster.timeline(lambda now: now["nodes"] == MOST, 180)
        wait_used(process, log)
        lost = charts.preempt(place, cluster.address, NOTICE)
        said = process.communicate(timeout=900)[0]
        ended = time.monotonic() - start
    summary = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
    going = cluster.timeline(empty, 120)
    say(log.read_text()[-2500:])
    wish = {name: getattr(request, name) for name in ("prompt", "width", "height", "model", "seed", "steps")}
    same = summary.get("pixels_sha256") == digest_alone(wish, place / "alone.zarr")
    return {
        "render: finished": process.returncode == 0,
        "render: the digest is that of one process": same,
        f"render: {MOST} nodes came, and all went": max(int(each["nodes"]) for each in coming) == MOST,
        "render: more than one node worked": sum(share > 0 for share in busy(summary)) > 1,
        "render: the preempted node was empty in time, and no step was done again": lost["empty"]
        and summary.get("steps_redone") == 0,
    }, {
        "nodes_coming": coming, "preempted": lost, "driver_seconds": round(ended, 1), "nodes_going": going,
        **{name: summary.get(name) for name in ("workers", "joins", "leaves", "moves", "steps_redone", "seconds")},
    }  # fmt: skip


def a_burst(cluster: clusters.Autoscaling, place: Path, dashboard: int) -> tuple[dict[str, bool], dict[str, Any]]:
    text, read = charts.serve_config(charts.objects(VALUES, changes()))
    charts.deploy(place, text, f"http://127.0.0.1:{dashboard}")
    service = charts.Service(charts.store_of(read))
    clusters.wait_for(service.ready, 300, lambda: charts.told(f"http://127.0.0.1:{dashboard}"))
    quiet = clusters.status(cluster.address)
    start = time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(lambda: [service.paint(**WISH, seed=number % 3) for number in range(BURST)])
        coming = cluster.timeline(lambda now: now["nodes"] == MOST, 180)
        ids = asked.result()
    lost = charts.preempt(place, cluster.address, NOTICE)
    clusters.wait_for(
        lambda: all(each["state"] in ("finished", "failed") for each in service.records(ids)),
        600,
        lambda: service.client.get("/v1/stats").text,
    )
    took = time.monotonic() - start
    going = cluster.timeline(empty, 150)
    records = service.records(ids)
    alone = {
        seed: digest_alone(
            {
                "prompt": WISH["prompt"],
                "width": 768,
                "height": 768,
                "steps": WISH["steps"],
                "model": "toy",
                "seed": seed,
            },
            place / f"alone-{seed}.zarr",
        )
        for seed in range(3)
    }
    return {
        "burst: a service without work has no node": empty(quiet),
        "burst: all are finished": all(each["state"] == "finished" for each in records),
        "burst: digests are those of one process": all(
            each["digest"] == alone[number % 3] for number, each in enumerate(records)
        ),
        f"burst: {MOST} nodes came, and all went": int(coming[-1]["nodes"]) == MOST
        and empty(clusters.status(cluster.address)),
        "burst: the preempted node was empty in time": lost["empty"],
    }, {"renders": BURST, "nodes_coming": coming, "preempted": lost, "seconds": round(took, 1), "nodes_going": going}


def main() -> None:
    charts.own_network()
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"values": VALUES, "load": os.getloadavg()[0]}
    with clusters.scratch(quick=False) as place, charts.bucket(VALUES):
        dashboard = clusters.free_port()
        config = charts.autoscaler_config(VALUES, changes())
        figures["node_types"] = config["available_node_types"]
        with clusters.autoscaling(place, config, dashboard) as cluster:
            for name, act in (
                ("render", lambda: one_render(cluster, place)),
                ("burst", lambda: a_burst(cluster, place, dashboard)),
            ):
                held, figures[name] = act()
                say(name, held)
                checks |= held
    report("the chart's cluster under Ray's own autoscaler: from nothing to the most and back", checks, figures)


if __name__ == "__main__":
    main()
