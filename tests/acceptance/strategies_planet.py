"""A planet by a scene file: does each region show what was asked, and is there a seam between regions or tiles?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytile.plan.area import cover
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Region
from raytile.scenes import layer, read_scene, settle
from tests.acceptance.common import KEPT, ROOT, report, say
from tests.acceptance.measures import CELL, Floats, line_ratios
from tests.acceptance.measures_earth import BLOCK, GROUNDS, among_islands, real_shares, regressor

SCENE = ROOT / "examples" / "scenes" / "planet.yaml"
WIDTH, HEIGHT, TILE = 4096, 2048, 512
BAR = 0.8
WORDS = {
    "islands": ("islands",),
    "ice": ("ice",),
    "desert": ("desert",),
    "jungle": ("forest",),
    "forest": ("forest",),
    "savanna": ("grass", "forest"),
    "plains": ("grass", "forest"),
    "ocean": ("water",),
    "sea": ("water",),
}
"""What a region's words ask to see; the first that is found counts."""
PHASE = 32
"""Pixels of a latent cell times the network's stride: lines are compared with lines of this phase."""
REACH = 96
"""Pixels to both sides of a region's border in which steps are compared with those on it."""


def asked(prompt: str) -> tuple[str, ...]:
    return next(shown for word, shown in WORDS.items() if word in prompt)


def obedience(picture: Floats, request: RenderRequest, names: list[str]) -> dict[str, dict[str, Any]]:
    """Of each region, where it is at least half there and no other region is more, the share that shows it."""
    ground = regressor().grounds(picture)
    islands = among_islands(ground)
    y, x = (BLOCK * (np.indices(ground.shape) + 0.5)).astype(np.float64)
    covers = np.stack([cover(region, y, x, (None, WIDTH)) for region in request.regions])
    weighed = covers * np.array([region.weight for region in request.regions])[:, None, None]
    found: dict[str, dict[str, Any]] = {}
    for number, (name, region) in enumerate(zip(names, request.regions, strict=True)):
        mine = (covers[number] >= 0.5) & (weighed.argmax(0) == number)
        shown = asked(region.prompt)
        here = islands if shown == ("islands",) else np.isin(ground, [GROUNDS.index(each) for each in shown])
        shares = {each: round(float((ground[mine] == k).mean()), 3) for k, each in enumerate(GROUNDS)}
        found[name] = {
            "asked": " or ".join(shown), "shown": round(float(here[mine].mean()), 3), "blocks": int(mine.sum()),
            **shares,
        }  # fmt: skip
    return found


def tile_edges(picture: Floats, moments: np.random.Generator) -> dict[str, Any]:
    """Steps across tile edges (the wrapped side is one) over those of the nearest lines of their phase, and the same of
    lines that are none, with 95 % of their bootstrapped means. Lines are cut into pieces of 1,024 pixels."""

    def ratios(edges: bool) -> list[float]:
        found: list[float] = []
        for turned, wraps in ((picture, True), (picture.swapaxes(0, 1), False)):
            rolled = np.roll(turned, TILE // 2, axis=1) if wraps else turned
            start = TILE // 2 if wraps else TILE
            at = range(start if edges else PHASE, rolled.shape[1] - PHASE, TILE if edges else PHASE)
            lines = [line for line in at if edges or (line - start) % TILE]
            for top in range(0, rolled.shape[0] - 1023, 1024):
                found.extend(line_ratios(rolled[top : top + 1024], lines, PHASE))
        return found

    return {"edges": _interval(ratios(True), moments), "placebo": _interval(ratios(False), moments)}


def _interval(values: list[float], moments: np.random.Generator) -> dict[str, Any]:
    drawn = moments.choice(np.array(values), (2000, len(values))).mean(1)
    low, high = np.percentile(drawn, 2.5), np.percentile(drawn, 97.5)
    return {
        "lines": len(values), "mean": round(float(np.mean(values)), 3), "worst": round(max(values), 3),
        "from": round(float(low), 3), "to": round(float(high), 3),
        "p2.5": round(float(np.percentile(values, 2.5)), 3), "p97.5": round(float(np.percentile(values, 97.5)), 3),
    }  # fmt: skip


def border(picture: Floats, region: Region) -> dict[str, float]:
    """Along a region's border: the mean step from pixel to pixel (of either axis) on lines that run with the border, by
    distance from its middle; the largest of those within its feather, over the median of all out to `REACH` beyond."""
    reach = int(region.feather / 2) + REACH
    wide = region.model_copy(update={"feather": 2.0 * reach})
    y, x = np.mgrid[0 : picture.shape[0] : 2, 0 : picture.shape[1] : 2].astype(np.float64)
    depth = (cover(wide, y, x, (None, WIDTH)) - 0.5) * 2 * reach
    down, across = (np.mean(np.abs(np.roll(picture, -1, axis) - picture)[::2, ::2], axis=-1) for axis in (0, 1))
    inside = np.abs(depth) < reach - 1
    inside[-1] = False
    bins = ((depth[inside] + reach) // CELL).astype(int)
    steps = np.bincount(bins, (down + across)[inside]) / np.maximum(1, np.bincount(bins))
    middle = CELL * (np.arange(len(steps)) + 0.5) - reach
    near = np.asarray(np.abs(middle) <= max(CELL, region.feather / 2))
    return {
        "on the border": round(float(steps[np.abs(middle) <= CELL].mean() / np.median(steps)), 3),
        "peak in feather": round(float(steps[near].max() / np.median(steps)), 3),
        "peak elsewhere": round(float(steps[~near].max() / np.median(steps)), 3),
    }


def render(folder: Path) -> NDArray[np.uint8]:
    """By the command, as users do; or the picture that is named in RAYTILE_PLANET (a PNG), to look at one again."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    file = Path(os.environ.get("RAYTILE_PLANET") or folder / "planet.png")
    if not file.exists():
        command = [
            sys.executable, "-m", "raytile", "render", "--scene", str(SCENE), "--size", f"{WIDTH}x{HEIGHT}",
            "--device", "cpu", "--out", str(folder / "planet.zarr"), "--png", str(file), "--in-process",
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(file).convert("RGB"))


def keep(pixels: NDArray[np.uint8], request: RenderRequest) -> None:
    """The picture; rolled by half; each quarter at half size with the regions' borders; the wrapped side at 1:1."""
    from PIL import Image

    KEPT.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(KEPT / "strategies-planet.png")
    rolled = np.roll(pixels, WIDTH // 2, axis=1)
    Image.fromarray(rolled[::4, ::4]).save(KEPT / "strategies-planet-rolled.png")
    Image.fromarray(rolled[512:1536, WIDTH // 2 - 512 : WIDTH // 2 + 512]).save(KEPT / "strategies-planet-side.png")
    drawn = pixels[::4, ::4].copy()
    y, x = (4.0 * np.indices(drawn.shape[:2])).astype(np.float64)
    for region in request.regions:
        inside = cover(region, y, x, (None, WIDTH)) >= 0.5
        drawn[(inside != np.roll(inside, 1, 0)) | (inside != np.roll(inside, 1, 1))] = (255, 0, 0)
    Image.fromarray(drawn).save(KEPT / "strategies-planet-regions.png")


def main() -> None:
    read = read_scene(SCENE)
    request = settle(read, layer({"size": f"{WIDTH}x{HEIGHT}"}))
    names = [str(region.get("name")) for region in read.values["regions"]]
    with tempfile.TemporaryDirectory() as folder:
        pixels = render(Path(folder))
    keep(pixels, request)
    picture = np.asarray(pixels / 255.0)
    regions = obedience(picture, request, names)
    for name, found in regions.items():
        say(name, found)
    edges = tile_edges(picture, np.random.default_rng(0))
    borders = {name: border(picture, region) for name, region in zip(names, request.regions, strict=True)}
    checks = {f"{name}: {BAR:.0%} show {found['asked']}": found["shown"] >= BAR for name, found in regions.items()}
    placebo = edges["placebo"]
    checks["tile edges are like other lines"] = edges["edges"]["to"] <= max(1.05, placebo["p97.5"])
    for name, found in borders.items():
        checks[f"{name}: no step on its border"] = found["peak in feather"] <= max(1.5, found["peak elsewhere"])
    figures = {
        "regions": regions, "regressor_recall": regressor().recall, "real_crops": real_shares(),
        "tile_edges": edges, "borders": borders,
    }  # fmt: skip
    report("a planet by a scene file: regions obeyed, no seams", checks, figures)


if __name__ == "__main__":
    main()
