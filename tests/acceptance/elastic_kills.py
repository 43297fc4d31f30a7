"""Workers are killed, join and leave in mid-render on a real Ray; the picture is the undisturbed one to the bit."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any

from raytile.api import make_pool, render
from raytile.canvas.place import bytes_at
from raytile.engine.pool import Pool
from raytile.errors import RenderFailed
from raytile.events import TileDone
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import Watch, picture, step
from tests.engine.renders import digests, paint
from tests.s3 import BUCKET, serving

ROUNDS, EVERY, STEPS = 20, 5, 90
LONG = 240
"""Steps of the renders that workers join and leave: a worker takes some seconds to load."""


class Trial:
    """Renders one picture again and again on a running Ray, disturbed in one way or another."""

    def __init__(self, folder: Path, steps: int, calm: Pool | None = None) -> None:
        """What is expected is painted in this process, or, undisturbed, by the workers of `calm`."""
        self.folder, self.request = f"{folder}/{steps}", picture(steps=steps)
        first = Path(self.folder, "expected.zarr")
        first.parent.mkdir()
        if calm is None:
            self.expected = digests(paint(self.request, first)[1])
        else:
            self.expected = digests(render(self.request, first, pool=calm, device="cpu").head().summary or {})
        self.count, self.bucket = 0, ""

    def run(self, watch: Watch, **options: Any) -> dict[str, Any]:
        """One render; its figures, and what the watch saw. Every other canvas lies in `bucket`, if there is one."""
        self.count += 1
        out = f"{self.bucket if self.bucket and self.count % 2 else self.folder}/{self.count}.zarr"
        options = {"device": "cpu", "snapshot_every": EVERY, "listeners": [watch], **options}
        try:
            summary = render(self.request, out, **options).head().summary or {}
        except RenderFailed as error:
            say(error)
            return {"same": False, "error": str(error), "redone": [], "lag": 0, "struck": watch.struck, "seconds": 0.0}
        finally:
            watch.over()
        names = ("restarts", "rollbacks", "joins", "leaves", "moves", "steps_redone", "snapshots", "workers")
        return {
            "same": digests(summary) == self.expected,
            "snapshots_left": len(bytes_at(out).sizes("snapshots/")),
            "seconds": round(summary["seconds"]["total"], 2),
            "struck": None if watch.struck is None else round(watch.struck, 2),
            "lag": max(watch.lags, default=0),
            "redone": [each.steps_redone for each in watch.rollbacks],
            **{name: summary.get(name) for name in names},
        }


def bounded(figures: dict[str, Any], ahead: int) -> bool:
    """A kill redoes at most the steps since the last whole snapshot: `EVERY`, those in flight, and the write's lag."""
    return all(steps <= EVERY + ahead + figures["lag"] for steps in figures["redone"])


def killed(trial: Trial, pool: Pool, count: int, share: float, moments: random.Random) -> dict[str, Any]:
    """So many workers die some moment after this share of the steps is done."""
    watch = Watch(lambda seen: seen.kill(count, moments), at=step(share), after=moments.uniform(0, 0.2))
    return trial.run(watch, pool=pool)


def killed_in_decode(trial: Trial, pool: Pool, moments: random.Random) -> dict[str, Any]:
    watch = Watch(lambda seen: seen.kill(1, moments), at=lambda event: isinstance(event, TileDone))
    return trial.run(watch, pool=pool)


def killed_in_load(trial: Trial, place: Path) -> dict[str, Any]:
    """The first actor that loads its module is killed while it does."""
    met: list[int] = []

    def hunt() -> None:
        clusters.wait_for(lambda: bool(clusters.actors(place, "load")), 60)
        met.extend(clusters.actors(place, "load")[:1])
        clusters.slay(met)

    hunter = Thread(target=hunt, daemon=True)
    hunter.start()
    found = trial.run(Watch(), workers=3)
    hunter.join(1)
    return {**found, "met": len(met)}


def grown(trial: Trial, cluster: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A render that starts with the one place there is and gets two more; then one whose second node is drained, and
    taken away once its two workers have left."""
    seat: dict[str, Any] = {"num_cpus": 0, "resources": {"seat": 1}}
    added: list[Any] = []
    taken: list[float] = []

    def add(_: Watch) -> None:
        added.append(cluster.add(num_cpus=0, resources={"seat": 2}))

    def take(seen: Watch) -> None:
        clusters.drain(cluster.address, clusters.node_id(added[0]), 30)
        clusters.wait_for(lambda: len(seen.left) >= 2, 30)
        cluster.kill(added[0])
        taken.append(seen.share)

    cluster.add(num_cpus=0, resources={"seat": 1})
    join = trial.run(Watch(add, at=step(0.05)), workers="1..3", worker_resources=seat)
    watch = Watch(take, at=step(0.72))
    leave = trial.run(watch, workers=3, worker_resources=seat)
    return join, {**leave, "left_at_shares": watch.left, "node_killed_at_share": taken}


def main() -> None:
    moments = random.Random(20)
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"snapshot_every": EVERY, "rounds": []}
    with clusters.scratch() as place, serving(), clusters.fixed(place, head={"num_cpus": 3}) as cluster:
        cluster.connect()
        with tempfile.TemporaryDirectory(dir=place) as folder:
            trial = Trial(Path(folder), STEPS)
            trial.bucket = f"s3://{BUCKET}/kills"
            pool = make_pool(3, address=cluster.address)
            pool.connect(3)
            calm = Watch()
            whole = trial.run(calm, pool=pool)
            say("undisturbed", whole)
            figures |= {"undisturbed": whole, "denoising_seconds": round(calm.denoising, 2), "ahead": pool.ahead}
            for number in range(ROUNDS):
                found = killed(trial, pool, 1, moments.uniform(0, 0.95), moments)
                figures["rounds"].append(found)
                say(number, found)
            cruel = {
                "two of three": killed(trial, pool, 2, 0.5, moments),
                "all three": killed(trial, pool, 3, 0.5, moments),
                "one in decode": killed_in_decode(trial, pool, moments),
            }
            longer = Trial(Path(folder), LONG, pool)
            pool.close()
            cruel["one in load"] = killed_in_load(trial, place)
            join, leave = grown(longer, cluster)
            say(cruel, join, leave)
    figures |= {**cruel, "join": join, "drain": leave}
    rounds = figures["rounds"]
    checks["undisturbed: the oracle's digests, nothing redone"] = whole["same"] and not whole["redone"]
    checks[f"{ROUNDS} kills: equal digests"] = all(each["same"] for each in rounds)
    checks[f"{ROUNDS} kills: each was met"] = all(
        each["struck"] is not None and each.get("restarts") for each in rounds
    )
    checks["a kill redoes at most snapshot_every + in flight + lag"] = all(
        bounded(each, figures["ahead"]) for each in (*rounds, *cruel.values())
    )
    for name, found in cruel.items():
        checks[f"{name}: equal digests"] = found["same"]
    checks["load was met"] = cruel["one in load"]["met"] == 1
    checks["a join: equal digests, two joined, nothing redone"] = (
        join["same"] and join["joins"] == 2 and not join["steps_redone"]
    )
    checks["a drain: equal digests, nothing redone"] = leave["same"] and not leave["redone"]
    checks["a drain: both workers left, and their node was killed, in mid-render"] = (
        len([share for share in leave["left_at_shares"] if share < 1]) == 2
        and len([share for share in leave["node_killed_at_share"] if share < 1]) == 1
    )
    checks["no snapshot is left"] = not any(each.get("snapshots_left") for each in (*rounds, *cruel.values()))
    figures["steps_redone"] = sorted(sum(each["redone"]) for each in rounds)
    figures["worst_seconds"] = max(each["seconds"] for each in rounds)
    report("workers killed, joining and leaving on a real Ray, on disk and on S3: the same picture", checks, figures)


if __name__ == "__main__":
    main()
