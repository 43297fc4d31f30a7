"""A whole node dies in mid-render, the canvas on S3; and a canvas that two nodes do not share is refused."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.elastic_kills import EVERY, Trial, bounded
from tests.acceptance.watch import Watch, step, words
from tests.s3 import BUCKET as NAME
from tests.s3 import serving

BUCKET = f"s3://{NAME}"
STEPS, AHEAD = 90, 4
SEAT: dict[str, Any] = {"num_cpus": 0, "resources": {"seat": 1}}
PAIR = '{"num_cpus": 0, "resources": {"pair": 1}}'


def refused(cluster: Any, trial: Trial, hidden: Path) -> dict[str, Any]:
    """Two workers on two nodes, and a directory that one of them does not see."""
    hidden.mkdir()
    cluster.add(num_cpus=0, resources={"pair": 1})
    cluster.add_hidden(hidden, pair=1)
    out, log = hidden / "a.zarr", hidden.parent / "refused"
    arguments = words(trial.request, out, "--address", cluster.address, "--workers", "2", "--worker-resources", PAIR)
    with clusters.driver(*arguments, "--quiet", log=log) as process:
        code = process.wait(120)
    return {"code": code, "said": log.read_text().strip(), "left": sorted(path.name for path in hidden.iterdir())}


def main() -> None:
    moments = random.Random(7)
    with clusters.scratch() as place, serving(), clusters.fixed(place) as cluster:
        nodes = [cluster.add(num_cpus=0, resources={"seat": 1}) for _ in range(3)]
        cluster.connect()
        with tempfile.TemporaryDirectory(dir=place) as folder:
            trial = Trial(Path(folder), STEPS)
            trial.folder = f"{BUCKET}/node"
            options: dict[str, Any] = {"workers": 3, "worker_resources": SEAT}
            whole = trial.run(Watch(), **options)
            say("undisturbed", whole)
            victim = moments.choice(nodes)
            watch = Watch(lambda _: cluster.kill(victim), at=step(0.3))
            found = trial.run(watch, **options)
            say("node killed", found)
            hidden = refused(cluster, trial, Path(folder, "canvases"))
            say("not shared", hidden)
    report(
        "a node killed in mid-render, the canvas on S3; a canvas that nodes do not share",
        {
            "undisturbed: the oracle's digests": whole["same"] and not whole["redone"],
            "a node killed: equal digests": found["same"],
            "the kill was met": bool(found.get("restarts")),
            "it redoes at most snapshot_every + in flight + lag": bounded(found, AHEAD),
            "not shared: exit code 2": hidden["code"] == 2,
            "not shared: one line that names the fix": hidden["said"].count("\n") == 0 and "s3://" in hidden["said"],
            "not shared: nothing is left": hidden["left"] == [],
        },
        {"snapshot_every": EVERY, "undisturbed": whole, "killed": found, "not_shared": hidden},
    )


if __name__ == "__main__":
    main()
