"""The pool of a service on Ray: quick while it is warm, gone when it is not wanted; and a render made for a watcher who
leaves ends within a step."""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from raytile import api
from raytile.events import Event, StepDone
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters, services
from tests.acceptance.common import report, say
from tests.acceptance.services import Service

IDLE, TIMES = 12.0, 20
WISH = {"prompt": "a", "width": 256, "height": 256, "steps": 8, "model": "toy"}
LONG = {"prompt": "b", "width": 2048, "height": 1024, "steps": 80, "model": "toy", "levels": 1}
MOST = 0.150
"""Seconds between HTTP and the first step, beyond those of the engine."""
STEP_AND_MORE = 2
"""Steps that may still be told of a render whose watcher has left: the one under way, and one told meanwhile."""


def from_http(service: Service, seed: int) -> float:
    """Seconds from the request to the first step, as the client sees it on its stream of events."""
    begun = time.monotonic()
    with service.client.stream("POST", "/v1/renders?stream=true", json={**WISH, "seed": seed}) as answer:
        seconds = 0.0
        for line in answer.iter_lines():
            if line == "event: step" and not seconds:
                seconds = time.monotonic() - begun
    return seconds


class First:
    """When the first step of a render was done."""

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone) and self.at is None:
            self.at = time.monotonic()


def engine_alone(folder: Path, workers: int, resources: dict[str, Any], address: str) -> list[float]:
    """Seconds from `render` to the first step, with workers that are there and have loaded the model."""
    pool, found = api.make_pool(workers, address=address, worker_resources=resources), []
    try:
        for seed in range(TIMES + 1):
            first, begun = First(), time.monotonic()
            wish = RenderRequest.parse(**WISH, seed=seed)
            api.render(wish, folder / f"{seed}.zarr", pool=pool, listeners=[first])
            found.append((first.at or 0.0) - begun)
    finally:
        pool.close()
    return found[1:]


def watcher_leaves(service: Service) -> dict[str, Any]:
    """A client hangs up in the midst of a render that was made for it."""
    wish = {**LONG, "cancel_on_disconnect": True}
    id, steps = "", 0
    with service.client.stream("POST", "/v1/renders?stream=true", json=wish) as answer:
        id = answer.headers["location"].rpartition("/")[2]
        for line in answer.iter_lines():
            steps += line == "event: step"
            if steps == 3:
                break
    left = time.time()
    clusters.wait_for(lambda: bool(service.endings(id)), 60)
    events = service.events(id)
    at = [event["at"] for event in events if event["event"] == "step"]
    pace = statistics.median(b - a for a, b in pairwise(at))
    late = [when for when in at if when > left]
    return {
        "ending": service.endings(id), "seconds": round(events[-1]["at"] - left, 3), "step_seconds": round(pace, 3),
        "steps_after": len(late), "steps_asked": LONG["steps"], "steps_done": len(at),
    }  # fmt: skip


def main() -> None:
    with clusters.scratch() as place, tempfile.TemporaryDirectory() as kept:
        settings = {"RAYTILE_WARM_IDLE_S": str(IDLE), "RAYTILE_PREVIEW_EVERY": "0"}
        with services.serving(place / "s", Path(kept, "store"), 2, **settings) as service:
            from_http(service, 1000)
            http = [from_http(service, seed) for seed in range(TIMES)]
            say("http", [round(each, 3) for each in http])
            left = watcher_leaves(service)
            say(left)
            busy = {part: len(service.pids(part)) for part in ("worker", "driver", "supervisor")}
            idle_from = time.monotonic()
            clusters.wait_for(lambda: not service.pids("worker") and not service.pids("driver"), 6 * IDLE)
            emptied = time.monotonic() - idle_from
            gone = {part: len(service.pids(part)) for part in ("worker", "driver", "supervisor")}
            again = from_http(service, 2000)
        with clusters.fixed(place, [{"num_cpus": 2}]) as cluster:
            alone = engine_alone(Path(kept), 2, {"num_cpus": 0.5}, cluster.address)
        say("engine", [round(each, 3) for each in alone])
    beyond = statistics.median(http) - statistics.median(alone)
    report(
        "a warm pool is quick, and goes; who leaves ends what was made for them",
        {
            f"from HTTP to the first step at most {MOST} s beyond the engine's own": beyond <= MOST,
            "workers and drivers were there": busy["worker"] > 0 and busy["driver"] > 0,
            "after the idle time none is left but the supervisor": gone == {"worker": 0, "driver": 0, "supervisor": 1},
            "they went about when they should": emptied <= IDLE + 15,
            "the next render starts the pool again": again > 0,
            "a render whose watcher left is cancelled, once": left["ending"] == ["cancelled"],
            "within a step": left["steps_after"] <= STEP_AND_MORE,
        },
        {
            "http_to_first_step": {"median": round(statistics.median(http), 3), "worst": round(max(http), 3)},
            "engine_to_first_step": {"median": round(statistics.median(alone), 3), "worst": round(max(alone), 3)},
            "beyond": round(beyond, 3),
            "cold_http_to_first_step": round(again, 3),
            "busy": busy,
            "emptied_after": round(emptied, 1),
            "watcher": left,
        },
    )


if __name__ == "__main__":
    main()
