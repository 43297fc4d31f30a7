"""A hundred small renders over one Ray, a worker killed in every third: nothing fails, nothing is left over."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from raytile.api import make_pool, render
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import Watch, picture, step
from tests.engine.renders import digests

RENDERS, POOLS, WARM = 100, 5, 20
CPUS = 2
MOST_GROWTH = 0.1
"""MB of memory a render that the driver may grow by once it is warm: a tenth of what one canvas has in pixels."""


def living() -> int:
    """Actors that Ray counts as not dead, but for the one that adds up metrics as long as the cluster lives."""
    import ray._private.state as state

    found = state.actors().values()
    return sum(1 for one in found if one["State"] != "DEAD" and one["ActorClassName"] != "MeterActor")


def stored() -> dict[str, int]:
    """What is in the cluster's object stores."""
    import ray
    from ray._private.internal_api import node_stats

    found = {"bytes": 0, "objects": 0}
    for node in ray.nodes():
        if node["Alive"]:
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
            found["bytes"] += stats.store_stats.object_store_bytes_used
            found["objects"] += stats.store_stats.num_local_objects
    return found


def slope(values: list[float]) -> float:
    """Growth per render of a straight line through the values."""
    import numpy as np

    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def names(canvas: Path) -> set[str]:
    """All files of a canvas."""
    return {str(path.relative_to(canvas)) for path in canvas.rglob("*") if path.is_file()}


def soak(folder: Path, address: str, renders: int, pools: int, moments: random.Random) -> dict[str, Any]:
    """The renders, with figures after each one; the first, which nothing disturbs, says what all are to be like."""
    import ray

    request = picture(width=600, height=392, steps=20)
    expected: tuple[str, str] | None = None
    process, usual = psutil.Process(), set[str]()
    found: dict[str, Any] = {"same": 0, "killed": 0, "met": 0, "failed": [], "left": [], "actors": []}
    kept: dict[str, list[float]] = {"rss": [], "store": [], "objects": [], "files_open": [], "threads": []}
    before = set(folder.iterdir())
    pool, big = None, ray.put(bytes(2**20))
    found["an_object_shows"] = stored()["objects"] > 0
    del big
    for number in range(renders):
        if number % (renders // pools) == 0:
            if pool is not None:
                pool.close()
                found["actors"].append(settled(living))
            pool = make_pool(2, address=address)
            pool.connect(2)
        kill = number % 3 == 2
        found["killed"] += kill
        watch = Watch(lambda seen: seen.kill(1, moments), at=step(moments.uniform(0, 0.9))) if kill else Watch()
        out = folder / f"{number}.zarr"
        try:
            canvas = render(request, out, pool=pool, device="cpu", snapshot_every=4, listeners=[watch])
            summary = canvas.head().summary or {}
            expected, usual = expected or digests(summary), usual or names(out)
            found["same"] += digests(summary) == expected
            found["met"] += bool(summary["restarts"])
        except Exception as error:
            found["failed"].append(f"{number}: {type(error).__name__}: {error}")
        watch.over()
        found["left"] += sorted(names(out) ^ usual)
        shutil.rmtree(out, ignore_errors=True)
        now = stored()
        kept["rss"].append(process.memory_info().rss / 1e6)
        kept["store"].append(now["bytes"] / 1e6)
        kept["objects"].append(now["objects"])
        kept["files_open"].append(process.num_fds())
        kept["threads"].append(process.num_threads())
        if number % 10 == 9:
            say(number, {name: round(values[-1], 1) for name, values in kept.items()}, found["failed"])
    assert pool is not None
    pool.close()
    found["actors"].append(settled(living))
    found["stored_at_the_end"] = settled(lambda: stored()["objects"])
    found["left"] += sorted(path.name for path in set(folder.iterdir()) - before)
    found["free"] = CPUS - settled(lambda: round(CPUS - ray.available_resources().get("CPU", 0)))
    return {**found, "series": kept}


def settled(ask: Callable[[], int]) -> int:
    """The least that `ask` says within some seconds: Ray frees things a moment later."""
    least = int(ask())
    try:
        clusters.wait_for(lambda: int(ask()) == 0, 10)
        return 0
    except TimeoutError:
        return min(least, int(ask()))


def main() -> None:
    with clusters.scratch() as place, clusters.fixed(place, head={"num_cpus": CPUS}) as cluster:
        cluster.connect()
        with tempfile.TemporaryDirectory(dir=place) as folder:
            found = soak(Path(folder), cluster.address, RENDERS, POOLS, random.Random(100))
    series = found.pop("series")
    growth = {name: round(slope(values[WARM:]), 4) for name, values in series.items()}
    report(
        "a hundred small renders over one Ray, a kill in every third",
        {
            "no failure": not found["failed"],
            "equal digests every time": found["same"] == RENDERS,
            "kills were met": found["met"] >= found["killed"] * 0.8,
            "no actor is left": not any(found["actors"]) and found["free"] == CPUS,
            "no object is left": found["an_object_shows"] and found["stored_at_the_end"] == 0,
            "no file is left": not found["left"],
            f"the driver's memory is flat: under {MOST_GROWTH} MB a render": growth["rss"] < MOST_GROWTH,
            "the object store is flat": growth["store"] < 0.01,
            "open files and threads are flat": growth["files_open"] < 0.1 and growth["threads"] < 0.1,
        },
        {
            **found,
            "growth_a_render": growth,
            "rss_mb": [round(series["rss"][at], 1) for at in (0, WARM, RENDERS // 2, RENDERS - 1)],
            "store_mb_most": round(max(series["store"]), 2),
            "objects_most": max(series["objects"]),
        },
    )


if __name__ == "__main__":
    main()
