"""Ray's own autoscaler over a head without capacity: nodes come for a render, are used, and go; so does the demand of
a driver that was killed."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import picture, words

MOST = 3


def empty(now: dict[str, int]) -> bool:
    return not any(now.values())


def busy(summary: dict[str, Any]) -> list[float]:
    """Seconds that each worker which was ever part of the render spent working."""
    return list(summary.get("busy_seconds", []))


def main() -> None:
    request = picture(steps=400)
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {}
    config = clusters.scaled(MOST, {"CPU": 1}, idle_seconds=6.0)
    with clusters.scratch(quick=False) as place, clusters.autoscaling(place, config) as cluster:
        common = ("--address", cluster.address, "--workers", f"1..{MOST}")
        start = time.monotonic()
        with clusters.driver(*words(request, place / "a.zarr", *common, "--json"), log=place / "a.log") as process:
            coming = cluster.timeline(lambda now: now["nodes"] == MOST, 120)
            said = process.communicate(timeout=300)[0]
            ended = time.monotonic() - start
        summary = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
        going = cluster.timeline(empty, 90)
        seconds = summary.get("seconds", {})
        say("render", process.returncode, seconds, (place / "a.log").read_text()[-1500:])
        figures["render"] = {
            "nodes_coming": coming, "driver_seconds": round(ended, 1), "nodes_going_after_its_end": going,
            "workers": summary.get("workers"), "joins": summary.get("joins"), "seconds": seconds,
            "steps_redone": summary.get("steps_redone"), "moves": summary.get("moves"),
        }  # fmt: skip
        checks["a render on a head without capacity finishes"] = process.returncode == 0
        checks["more than one node is used"] = sum(share > 0 for share in busy(summary)) > 1
        checks["joins redo nothing"] = summary.get("steps_redone") == 0
        checks["the nodes go"] = empty({name: int(going[-1][name]) for name in ("nodes", "coming", "demand")})

        common = ("--address", cluster.address, "--workers", str(MOST))
        with clusters.driver(*words(request, place / "b.zarr", *common), log=place / "b.log") as process:
            asking = cluster.timeline(lambda now: now["demand"] + now["coming"] > 0, 60)
            process.kill()
            process.wait()
            after = cluster.timeline(lambda now: empty(now), 120)
        time.sleep(15)  # a node that somebody still wanted would be back by now
        later = clusters.status(cluster.address)
        figures["killed"] = {"asking": asking, "after_the_kill": after, "a_while_later": later}
        checks["a killed driver's demand is gone, and its nodes"] = empty(later)
        peak = max(int(moment["nodes"] + moment["coming"] + moment["demand"]) for moment in (*asking, *after))
        checks[f"it asked for {MOST}"] = peak >= MOST
    report("the real autoscaler: nodes come, are used, and go", checks, figures)


if __name__ == "__main__":
    main()
