"""Previews: what they cost beside a render without, how true they are, and how fast any part of a picture is seen."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.common import report, say

EVERY = 5
"""As the service has it."""
ROUNDS = int(os.environ.get("RAYTILE_PREVIEW_ROUNDS", "3"))
LARGE = 4096, 2048
SHARE = 0.02


def painting() -> Any:
    from raytile.plan.request import RenderRequest

    words = "satellite view, islands in a warm sea, coast, green mountains"
    return RenderRequest(prompt=words, width=512, height=512, tile=256, model="terra", levels=1, steps=10, seed=5)


def render(folder: Path, pool: Any, every: int, listener: Callable[[Any], None] = lambda _: None) -> dict[str, Any]:
    """One render in this process: seconds on the clock, seconds of the processor, the picture's digest."""
    from raytile import api

    place = folder / f"every-{every}.zarr"
    wall, cpu = time.perf_counter(), time.process_time()
    canvas = api.render(painting(), place, pool=pool, overwrite=True, preview_every=every, listeners=[listener])
    summary = canvas.head().summary or {}
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "denoise": summary["seconds"]["denoise"],
        "digest": summary["pixels_sha256"],
    }


def alone(folder: Path, tiles: int, previews: int) -> float:
    """Processor seconds of the work that previews add to a render, done by itself: colours and writing."""
    import torch

    from raytile.canvas import store
    from raytile.models import registry
    from raytile.models.preview import colours_of
    from raytile.sampling import clean_estimate

    canvas = store.open(folder / "every-0.zarr")
    module = registry.load(registry.resolve("terra"))
    colours, schedule = colours_of(module), module.schedule("euler", 10)
    side = canvas.layout.tile_cells
    x, prediction = torch.randn(2, canvas.layout.channels, side, side)
    canvas.write_preview(len(canvas.layout.levels), 0, colours.of(x))
    rounds = 5
    begun = time.process_time()
    for _ in range(rounds):
        for tile in range(tiles):
            shown = colours.of(clean_estimate(x, prediction, 1, schedule))
            canvas.write_preview(len(canvas.layout.levels), tile, shown)
    return (time.process_time() - begun) / rounds * previews


def emerging(folder: Path, pool: Any) -> list[dict[str, Any]]:
    """How far each preview, as a whole picture of a pixel a cell, is from what comes out: the mean error in levels of
    255, beside that of plain grey."""
    import numpy as np

    from raytile.events import PreviewStored
    from raytile.geometry.box import Box
    from raytile.serve.tiles import Picture

    place, seen = folder / "every-1.zarr", []

    def look(event: Any) -> None:
        if isinstance(event, PreviewStored):
            side = painting().width
            pixels = Picture(place).region(Box(0, side, 0, side), side // 8, side // 8).astype(float)
            seen.append((event.step, pixels))

    render(folder, pool, 1, look)
    side = painting().width
    final = Picture(place).region(Box(0, side, 0, side), side // 8, side // 8).astype(float)
    grey = float(np.abs(final - final.mean(axis=(0, 1))).mean())
    return [
        {
            "step": step,
            "error": round(float(np.abs(pixels - final).mean()), 2),
            "of_grey": round(float(np.abs(pixels - final).mean()) / grey, 3),
        }
        for step, pixels in seen
    ]


def zooming(folder: Path) -> dict[str, float]:
    """Milliseconds for parts of a large finished canvas, as a viewer asks for them: encoded tiles of 512 pixels."""
    import numpy as np

    from raytile.canvas import store
    from raytile.canvas.layout import CanvasLayout
    from raytile.engine.previews import reduced
    from raytile.serve import zoom
    from raytile.serve.tiles import Picture, encoded
    from tests.canvas.canvas_parts import head

    width, height = LARGE
    layout = CanvasLayout(
        width=width, height=height, channels=8, rows=height // 8, columns=width // 8, tile_cells=64, factor=8
    )
    canvas = store.create(folder / "large.zarr", layout, head(layout))
    rng = np.random.default_rng(0)
    for tile in range(layout.tiles):
        coarse = rng.integers(0, 256, (3, 32, 32), np.uint8)
        pixels = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)
        canvas.write_preview(0, tile, reduced(pixels, layout.cells(tile), 8))
        canvas.write_image(tile, pixels)
    canvas.commit(lambda now: now.with_tiles(range(layout.tiles), 2.0).but(state="finished"))

    def asked(picture: Picture, level: int, column: int, row: int) -> float:
        begun = time.perf_counter()
        encoded(picture.region(*zoom.tile_box(width, height, level, column, row)), "jpeg")
        return (time.perf_counter() - begun) * 1000

    last = zoom.levels(width, height) - 1
    figures, picture = {}, Picture(canvas.path)
    figures["first_overview"] = asked(picture, 9, 0, 0)
    figures["overview_again"] = statistics.median(asked(picture, 9, 0, 0) for _ in range(20))
    for name, level in (("pixels", last), ("half", last - 1), ("quarter", last - 2), ("eighth", last - 3)):
        across, down = zoom.level_size(width, height, level)
        places = [(c, r) for c in range(-(-across // 512)) for r in range(-(-down // 512))][:24]
        times = [asked(picture, level, *place) for place in places]
        figures[f"{name}_median"], figures[f"{name}_worst"] = statistics.median(times), max(times)
    return {name: round(value, 1) for name, value in figures.items()}


def main() -> None:
    import torch

    from raytile import api
    from raytile.canvas import store

    torch.set_num_threads(1)
    pool = api.make_pool(1, in_process=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render(folder, pool, 0)  # loads the model, warms everything up
        rounds: dict[int, list[dict[str, Any]]] = {0: [], EVERY: []}
        for number in range(ROUNDS):
            for every in (0, EVERY) if number % 2 else (EVERY, 0):
                rounds[every].append(render(folder, pool, every))
            say(number, {every: {k: v for k, v in runs[-1].items() if k != "digest"} for every, runs in rounds.items()})
        ratio = {
            what: min(run[what] for run in rounds[EVERY]) / min(run[what] for run in rounds[0])
            for what in ("cpu", "wall", "denoise")
        }
        tiles = store.open(folder / "every-0.zarr").layout.tiles
        share = alone(folder, tiles, 3) / min(
            run["cpu"] for run in rounds[0]
        )  # the second step, the fifth and the last
        say("alone", share, ratio)
        steps = emerging(folder, pool)
        say(steps)
        looks = zooming(folder)
        digests = {run["digest"] for runs in rounds.values() for run in runs}
    pool.close()
    errors = [step["error"] for step in steps]
    report(
        "previews: cost, truth, and how fast any part of a picture is seen",
        {
            "what previews add is at most 2 % of a render's processor time": share <= SHARE,
            "with previews a render takes at most 2 % more processor time": ratio["cpu"] <= 1 + SHARE,
            "the picture is the same to the bit": len(digests) == 1,
            "previews come nearer to the picture": errors[-1] < errors[len(errors) // 2] < errors[0],
            "the last preview is within 8 levels of it": errors[-1] <= 8,
        },
        {
            "share_alone": round(share, 5),
            "ratio_with_to_without": {what: round(value, 4) for what, value in ratio.items()},
            "seconds": {
                str(every): {what: [round(run[what], 2) for run in runs] for what in ("cpu", "wall", "denoise")}
                for every, runs in rounds.items()
            },
            "emerging": steps,
            "zoom_ms": {"picture": f"{LARGE[0]}x{LARGE[1]}", **looks},
        },
    )


if __name__ == "__main__":
    main()
