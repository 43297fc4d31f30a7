"""Style transfer of an 8192x4096 source by two workers: memory, edges, style; and a canvas repainted in a part of it.

The source is NASA's Blue Marble, enlarged; beside it the same at half the size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytile.api import plan, render
from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.layout import IMAGE, chunk_key
from raytile.events import Event, StepDone
from raytile.geometry.box import Box
from raytile.plan.area import cover
from raytile.plan.request import RenderRequest
from tests.acceptance.common import KEPT, report, say
from tests.acceptance.measures import Floats
from tests.acceptance.measures_earth import BLOCK, earth, earth_land
from tests.acceptance.measures_lines import edges, lines_apart

SIZES = ((4096, 2048), (8192, 4096))
STRENGTH, STEPS = 0.75, 32
PROMPT = "relief map, shaded relief"
ICY = "relief map, white ice, ice sheet, snow"
HARD = {"negative": "satellite view, satellite photo, from space", "guidance": 3, "guidance_interval": [0, 0.5]}
"""Of the ways that were tried on crops of 1024x512 pixels this kept edges and changed the style best; a land mask
beside the source holds the coasts."""
ICE = ((-0.1, 0.85, 1.2, 0.3), (0.335, 0.03, 0.125, 0.135))
"""Where ice is asked for: without words for it, plains and mountains grow on it in places. Boxes
(x, y, width, height) in shares of the picture."""
LINE = 1.18
"""How much larger than at other lines the mean step may be where windows of the last steps end."""
MOST = 0.10
FEW = 4
"""Steps of the renders whose memory is compared: more of them hold no more."""
MEGABYTE = 2**20
RUN = """
import json, sys
from raytile.api import render
from raytile.engine.memory import peak_rss_bytes
from raytile.plan.request import RenderRequest
canvas = render(RenderRequest.parse(**json.loads(sys.argv[1])), sys.argv[2], workers=2, device="cpu", resume=True)
summary = canvas.head().summary
print(json.dumps({"driver": peak_rss_bytes(), "workers": summary["peak_rss_bytes"]["workers"],
                  "seconds": summary["seconds"], "evaluations": summary["evaluations"],
                  "torch": "torch" in sys.modules}))
"""
CROPS = ((0.52, 0.28), (0.27, 0.30), (0.78, 0.30), (0.33, 0.55))
"""Where crops to look at lie, in shares of width and height."""


def source(folder: Path, width: int, height: int) -> Path:
    from PIL import Image

    file = folder / f"source-{width}.png"
    if not file.exists():
        Image.fromarray(earth()).resize((width, height), Image.Resampling.BICUBIC).save(file)
    return file


def mask(folder: Path) -> Path:
    from PIL import Image

    file = folder / "land.png"
    if not file.exists():
        Image.fromarray(earth_land()).save(file)
    return file


def asking(folder: Path, width: int, height: int) -> dict[str, Any]:
    return {
        "prompt": PROMPT, "width": width, "height": height, "wrap": "x", "seed": 5, "steps": STEPS,
        "source": {"path": str(source(folder, width, height))}, "strength": STRENGTH,
        "control": {"path": str(mask(folder))}, **HARD,
        "regions": [
            {"box": [x * width, y * height, w * width, h * height], "feather": 0.04 * height, "prompt": ICY}
            for x, y, w, h in ICE
        ],
    }  # fmt: skip


def transfer(folder: Path, width: int, height: int, steps: int = STEPS) -> dict[str, Any]:
    """Render in a process of its own, on a Ray of its own, so that peaks are this render's; a canvas that is finished
    in `folder` keeps its figures."""
    asked = {**asking(folder, width, height), "steps": steps}
    name = f"{width}" if steps == STEPS else f"{width}-{steps}"
    kept = folder / f"{name}.json"
    if not kept.exists():
        command = [sys.executable, "-c", RUN, json.dumps(asked), str(folder / f"{name}.zarr")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        kept.write_text(done.stdout.splitlines()[-1])
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def block_means(pixels: NDArray[np.uint8], side: int) -> Floats:
    """Area means, [h / side, w / side, 3] in [0, 1], a row of blocks at a time."""
    rows = range(0, pixels.shape[0] - side + 1, side)
    width = pixels.shape[1] // side
    means = [pixels[y : y + side, : width * side].reshape(side, width, side, 3).mean((0, 2)) for y in rows]
    return np.asarray(np.stack(means) / 255.0)


def block_features(pixels: NDArray[np.uint8]) -> Floats:
    """[blocks, 6]: mean colour and its deviations."""
    found = []
    for y in range(0, pixels.shape[0] - BLOCK + 1, BLOCK):
        row = pixels[y : y + BLOCK, : pixels.shape[1] // BLOCK * BLOCK].reshape(BLOCK, -1, BLOCK, 3) / 255.0
        found.append(np.concatenate([row.mean((0, 2)), row.std((0, 2))], axis=-1))
    return np.concatenate(found)


def frechet(a: Floats, b: Floats) -> float:
    """Distance of two sets of features as normal distributions (Dowson and Landau 1982)."""
    one, other = np.cov(a.T), np.cov(b.T)
    mixed = np.sqrt(np.maximum(0, np.real(np.linalg.eigvals(one @ other))))  # the square root's trace is their sum
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other) - 2 * mixed.sum())


def steepness(means: Floats) -> Floats:
    """How steep each cell of low-passed colours is."""
    down, across = np.gradient(means, axis=(0, 1))
    return np.asarray(np.sqrt((down**2 + across**2).sum(-1)))


def alike(a: Floats, b: Floats) -> float:
    return round(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), 3)


def keep(before: NDArray[np.uint8], after: NDArray[np.uint8], real: NDArray[np.uint8]) -> None:
    """Whole at a small size; and crops at 1:1: source, painted, and the real relief map of the place."""
    from PIL import Image

    KEPT.mkdir(exist_ok=True)
    height, width = after.shape[:2]
    Image.fromarray(after).resize((1536, 768), Image.Resampling.BOX).save(KEPT / "strategies-style.png")
    rows = []
    for x, y in CROPS:
        left, top = int(x * width) // 512 * 512 - 200, int(y * height) // 512 * 512 - 200
        window = np.s_[top : top + 400, left : left + 400]
        place = (left * 4320 / width, top * 2160 / height, (left + 400) * 4320 / width, (top + 400) * 2160 / height)
        there = np.asarray(Image.fromarray(real).resize((400, 400), Image.Resampling.BICUBIC, place))
        rows.append(np.concatenate([before[window], after[window], there], axis=1))
    Image.fromarray(np.concatenate(rows)).save(KEPT / "strategies-style-crops.png")


def written(canvas: Canvas, tile: int) -> float:
    """When the pixels of a tile were written last, in seconds since the epoch."""
    return Path(canvas.path, chunk_key(IMAGE, *canvas.layout.grid(tile))).stat().st_mtime


def repaint(folder: Path) -> dict[str, Any]:
    """A part of a canvas of terra painted anew: what changed outside of the mask, and which tiles worked."""
    from PIL import Image

    wish = {"prompt": "satellite view, open ocean, islands", "width": 1536, "height": 768, "wrap": "x", "seed": 4,
            "levels": 1, "tile": 256, "steps": 10}  # fmt: skip
    old = render(RenderRequest.parse(**wish), folder / "old.zarr", in_process=True, device="cpu", resume=True)
    shape = {"box": [700, 250, 300, 200], "feather": 48}
    wish |= {"prompt": "satellite view, desert, sand", "repaint": [shape], "source": {"path": str(folder / "old.zarr")}}
    request = RenderRequest.parse(**wish)
    began: list[float] = []

    def look(event: Event) -> None:
        if isinstance(event, StepDone):
            began.append(time.time())

    out = folder / "new.zarr"
    new = render(request, out, in_process=True, device="cpu", listeners=[look], overwrite=True)
    whole = Box(0, request.height, 0, request.width)
    before, after = (canvas.read_image(whole).transpose(1, 2, 0) for canvas in (old, new))
    y, x = (each + 0.5 for each in np.indices(before.shape[:2]))
    covered = cover(request.repaint[0], y, x, (None, request.width))
    changed = (before != after).any(-1)
    settled = plan(request)
    Image.fromarray(np.concatenate([before, after])[:, 400:1300]).save(KEPT / "strategies-repaint.png")
    return {
        "changed_outside": int((changed & (covered == 0)).sum()),
        "changed_in_the_middle": round(float(changed[covered >= 1].mean()), 3),
        "tiles": settled.tiling.count,
        "tiles_touched": int(settled.active.sum()),
        "tiles_written": len([tile for tile in range(settled.tiling.count) if written(new, tile) > began[0]]),
        "evaluations": (new.head().summary or {})["evaluations"],
        "evaluations_of_the_whole": (old.head().summary or {})["evaluations"],
    }


def main() -> None:
    figures: dict[str, Any] = {
        "strength": STRENGTH,
        "steps": STEPS,
        "prompt": PROMPT,
        **HARD,
        "load": os.getloadavg()[0],
    }
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("RAYTILE_STYLE") or scratch)
        figures["repaint"] = again = repaint(folder)
        say(again)
        transfer(folder, *SIZES[-1])
        seen = {size: transfer(folder, *size, FEW) for size in SIZES}
        say(seen)
        width, height = SIZES[-1]
        painted = store.open(str(folder / f"{width}.zarr"))
        after = np.asarray(painted.read_image(Box(0, height, 0, width)).transpose(1, 2, 0))
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None
        before = np.asarray(Image.open(source(folder, width, height)))
        at = edges(RenderRequest.parse(**asking(folder, width, height)))
    real = earth("relief")
    keep(before, after, real)
    small, large = (seen[size] for size in SIZES)
    growth = {
        "driver": large["driver"] / small["driver"] - 1,
        "workers": max(large["workers"]) / max(small["workers"]) - 1,
    }
    lows = [block_means(each, 32) for each in (before, after)]
    kept = alike(steepness(lows[0]), steepness(lows[1]))
    placebo = alike(steepness(lows[0]), steepness(np.roll(lows[1], lows[1].shape[1] // 3, axis=1)))
    enlarged = np.asarray(Image.fromarray(real).resize((width, height), Image.Resampling.BICUBIC))
    far = {
        "painted from relief": frechet(block_features(after), block_features(enlarged)),
        "painted from satellite": frechet(block_features(after), block_features(before)),
        "satellite from relief": frechet(block_features(before), block_features(enlarged)),
    }
    lines = lines_apart(after / np.float32(255), at, np.random.default_rng(0))
    figures |= {
        "lines": lines,
        "peak_mb": {
            f"{w}x{h}": {"driver": run["driver"] // MEGABYTE, "workers": [each // MEGABYTE for each in run["workers"]]}
            for (w, h), run in seen.items()
        },
        "growth": {name: round(share, 3) for name, share in growth.items()},
        "seconds": {f"{w}x{h}": run["seconds"] for (w, h), run in seen.items()},
        "evaluations": {f"{w}x{h}": run["evaluations"] for (w, h), run in seen.items()},
        "edges": {"kept": kept, "placebo": placebo,
                  "real_relief": alike(steepness(lows[0]), steepness(block_means(enlarged, 32)))},
        "frechet": {name: round(value, 4) for name, value in far.items()},
    }  # fmt: skip
    checks = {
        f"{name}: less than {MOST:.0%} more for four times the source": each < MOST for name, each in growth.items()
    }
    checks |= {
        f"{name}: edges like other lines": found["mean"] <= max(LINE, lines["placebo"]["to"])
        for name, found in lines.items()
    }
    checks |= {
        "no torch in the driver": not large["torch"],
        "edges are kept": kept > 0.5 and kept > placebo + 0.3,
        "the style is nearer to relief maps than to satellite views": (
            far["painted from relief"] < far["painted from satellite"]
        ),
        "repaint: not a bit changed outside of the mask": again["changed_outside"] == 0,
        "repaint: all inside is new": again["changed_in_the_middle"] > 0.95,
        "repaint: only touched tiles are written": again["tiles_written"] == again["tiles_touched"] < again["tiles"],
    }
    report("style transfer of 8192x4096 by two workers; repainting", checks, figures)


if __name__ == "__main__":
    main()
