"""Every strategy and topology: the same bits here, on Ray with 1, 2 and 3 workers, and after a worker was killed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raytile.api import make_pool, render
from raytile.engine.pool import Pool
from raytile.errors import RaytileError
from raytile.plan import tilesets
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Tileset
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import Watch, step
from tests.engine.renders import digests

STEPS = 16
EVERY = 3
"""Steps between snapshots, so that a killed worker's render goes on from somewhere in its middle."""
KILLS = 4
"""So often a kill is tried: a render may be over before it strikes."""
WANG: dict[str, Any] = {
    "one to one": {
        "pictures": [{"name": "a", "width": 256, "height": 128}, {"name": "b", "width": 256, "height": 256}],
        "seams": [{"one": ["a.top"], "other": ["b.left"]}, {"one": ["a.bottom"], "other": ["b.bottom"]}],
    },
    "many to many": {
        "pictures": [{"name": name, "width": 256, "height": 256} for name in "ab"],
        "seams": [
            {"one": ["a.right", "b.right"], "other": ["a.left", "b.left"]},
            {"one": ["a.bottom", "b.bottom"], "other": ["a.top", "b.top"]},
        ],
    },
}
"""With a quarter turn and unequal sizes; and with all to all."""


def make_pictures(folder: Path) -> dict[str, dict[str, str]]:
    """A picture, a mask of its size, and a painted canvas to work on, as a request names them."""
    from PIL import Image

    ramp = np.linspace(0, 255, 304)[None, :] * np.ones((304, 1))
    Image.fromarray(np.stack([ramp, ramp.T, 255 - ramp], -1).astype(np.uint8)).save(folder / "source.png")
    disc = np.hypot(*np.ogrid[-150:154, -120:184]) < 80
    Image.fromarray((255 * disc).astype(np.uint8)).save(folder / "mask.png")
    render(wish(width=304, height=304), folder / "parent.zarr", in_process=True, device="cpu")
    return {name.partition(".")[0]: {"path": str(folder / name)} for name in ("source.png", "mask.png", "parent.zarr")}


def wish(**changes: Any) -> RenderRequest:
    values: dict[str, Any] = {"prompt": "hello", "model": "toy", "steps": STEPS, "tile": 128, "seed": 3, "levels": 1}
    return RenderRequest.parse(**{**values, **changes})


def cases(taken: Mapping[str, Any], **more: Any) -> dict[str, RenderRequest]:
    """One request for each strategy and topology, by name. `taken`: what `make_pictures` made."""
    plane, wide = {"width": 301, "height": 293}, {"width": 600, "height": 304, "levels": 2}
    regions = [
        {"box": [0, 0, 304, 120], "prompt": "b", "feather": 40},
        {"polygon": [[10, 150], [250, 160], [120, 290]], "prompt": "c", "guidance": 3, "seed": 9, "feather": 16},
        {"mask": taken["mask"], "prompt": "d", "weight": 2},
    ]
    wishes: dict[str, dict[str, Any]] = {
        "shift": plane,
        "overlap": {**plane, "sync": "overlap"},
        "wrap xy": {"width": 304, "height": 304, "wrap": "xy"},
        "levels by latents": wide,
        "levels by pixels": {**wide, "enlarge": "pixels", "wrap": "x"},
        "levels with skip residual": {**wide, "skip_residual": True, "renoise": 1.0, "sampler": "dpmpp_2m"},
        "levels with dilated lane": {**wide, "skip_residual": True, "renoise": 1.0, "dilated": True},
        "cube": {"width": 3 * 256, "height": 2 * 256, "topology": "cube"},
        "cube, two levels": {"width": 3 * 256, "height": 2 * 256, "topology": "cube", "levels": 2},
        "cube, overlap": {"width": 3 * 128, "height": 2 * 128, "topology": "cube", "sync": "overlap"},
        "equirectangular": {"width": 512, "height": 256, "topology": "equirectangular", "sampler": "euler_ancestral"},
        "tileset one to one": _sized(WANG["one to one"]),
        "tileset many to many": _sized(WANG["many to many"]),
        "scene": {"width": 304, "height": 304, "regions": regions},
        "scene, two levels, wrapped": {**wide, "regions": regions, "wrap": "x"},
        "source": {"width": 304, "height": 304, "source": taken["source"]},
        "upscale": {"width": 608, "height": 608, "source": taken["source"], "match_colour": True},
        "repaint": {
            "width": 304, "height": 304, "source": taken["parent"],
            "repaint": [{"box": [30, 40, 60, 50], "feather": 16}],
        },
        "extend": {"width": 400, "height": 304, "source": taken["parent"], "place": (96, 0)},
        "control": {"width": 304, "height": 304, "control": taken["mask"]},
    }  # fmt: skip
    return {name: wish(**{**values, **more}) for name, values in wishes.items()}


def _sized(tileset: dict[str, Any]) -> dict[str, Any]:
    width, height = tilesets.canvas_size(tileset, 8)
    return {"tileset": Tileset.model_validate(tileset), "width": width, "height": height}


class Compare:
    """Renders the cases, each time beside what the first render gave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, dict[str, dict[str, Any]]()
        self.count = 0

    def paint(self, name: str, how: str, request: RenderRequest, **options: Any) -> dict[str, Any]:
        """Render and keep the digests as those of `how`; the run's summary, or what went wrong."""
        self.count += 1
        try:
            canvas = render(request, self.folder / f"{self.count}.zarr", device="cpu", **options)
            summary = canvas.head().summary or {}
            assert canvas.digests() == digests(summary)
        except RaytileError as error:
            say(name, how, error)
            summary = {"error": str(error), "latents_sha256": "", "pixels_sha256": str(error)}
        self.found.setdefault(name, {})[how] = digests(summary)
        return summary

    def kill(self, name: str, request: RenderRequest, pool: Pool, moments: random.Random) -> bool:
        """Render while one worker is killed; whether that was met. Steps are added until it is: never digests."""
        for _ in range(KILLS):
            watch = Watch(lambda seen: seen.kill(1, moments), at=step(moments.uniform(0.1, 0.5)))
            options = {"pool": pool, "snapshot_every": EVERY, "listeners": [watch]}
            summary = self.paint(name, "a worker killed", request, **options)
            watch.over()
            if summary.get("rollbacks") or summary.get("error"):
                return bool(summary.get("rollbacks"))
        return False


def main() -> None:
    moments = random.Random(4)
    checks: dict[str, bool] = {}
    met: dict[str, bool] = {}
    with clusters.scratch() as place, tempfile.TemporaryDirectory(dir=place) as scratch:
        compare = Compare(Path(scratch))
        asked = cases(make_pictures(Path(scratch)))
        for name, request in asked.items():
            for workers in (1, 3):
                compare.paint(name, f"{workers} here", request, workers=workers, in_process=True)
        with clusters.fixed(place, head={"num_cpus": 3}) as cluster:
            cluster.connect()
            for workers in (1, 2, 3):
                pool = make_pool(workers, address=cluster.address)
                pool.connect(workers)
                for name, request in asked.items():
                    compare.paint(name, f"{workers} on Ray", request, pool=pool)
                    if workers == 3:
                        met[name] = compare.kill(name, request, pool, moments)
                        say(name, len(set(compare.found[name].values())), "digests, kill met:", met[name])
                pool.close()
    for name, found in compare.found.items():
        checks[f"{name}: one digest"] = len(set(found.values())) == 1 and "" not in found["1 here"]
        checks[f"{name}: a kill was met"] = met[name]
    figures = {
        "cases": len(asked),
        "renders": compare.count,
        "ways": list(next(iter(compare.found.values()))),
        "pixels_sha256": {name: sorted({each[1] for each in found.values()}) for name, found in compare.found.items()},
    }
    report(
        "strategies and topologies: the same bits here, on Ray with 1, 2, 3 workers, and after a kill", checks, figures
    )


if __name__ == "__main__":
    main()
