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
from tests.acceptance.measures import CELL, Floats
from tests.acceptance.measures_earth import BLOCK, GROUNDS, among_islands, real_shares, regressor
from tests.acceptance.measures_lines import edges, lines_apart

SCENE = ROOT / "examples" / "scenes" / "planet.yaml"
WIDTH, HEIGHT = 4096, 2048
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
REACH = 96
"""Pixels to both sides of a region's border in which steps are compared with those on it."""
AROUND = 8
FEW = 512
"""Pixels at one distance, less than which say nothing."""
SHORE = 48
INVISIBLE = 0.1 / 255
"""A step so small that none shows: in clipped white there are no others."""


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


def border(picture: Floats, region: Region, shores: NDArray[np.bool_]) -> dict[str, float]:
    """Whether a line shows along a region's border. Mean steps from pixel to pixel (of either axis) by distance from
    the middle of the border, two pixels at a time, each over the median of those around it: one ground that goes over
    into another is wider than a line. The largest where the region fades, and the largest further away. `shores` are
    left out: the land map draws coasts, not the region."""
    down, across = (np.mean(np.abs(np.roll(picture, -1, axis)[:-1] - picture[:-1]), axis=-1) for axis in (0, 1))
    steps = down + across
    reach = int(region.feather / 2) + REACH
    wide = region.model_copy(update={"feather": 2.0 * reach})
    y, x = np.mgrid[0 : steps.shape[0], 0 : steps.shape[1]].astype(np.float32)
    depth = (cover(wide, y, x, (None, WIDTH)) - 0.5) * 2 * reach
    inside = (np.abs(depth) < reach - 1) & ~shores[:-1]
    bins = ((depth[inside] + reach) // 2).astype(int)
    count = np.bincount(bins, minlength=reach)
    mean = np.bincount(bins, steps[inside], minlength=reach) / np.maximum(1, count) + INVISIBLE
    mean[count < FEW] = np.nan
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mean, AROUND, constant_values=np.nan), 2 * AROUND + 1)
    known = np.isfinite(mean) & (np.isfinite(around).sum(-1) > AROUND)
    ratio = np.zeros(len(mean))
    ratio[known] = mean[known] / np.nanmedian(around[known], axis=-1)
    near = np.abs(2 * (np.arange(len(mean)) + 0.5) - reach) <= max(CELL, region.feather / 2)
    found = {"where it fades": ratio[near], "elsewhere": ratio[~near]}
    return {name: round(float(values.max(initial=0)), 3) for name, values in found.items()}


def coasts(request: RenderRequest) -> NDArray[np.bool_]:
    """[height, width]: less than some `SHORE` pixels away from a coast of the land map."""
    from PIL import Image, ImageFilter

    assert request.control is not None
    with Image.open(request.control.path) as opened:
        land = opened.convert("L").resize((WIDTH // CELL, HEIGHT // CELL), Image.Resampling.BOX)
    size = 2 * (SHORE // CELL) + 1
    most, least = (np.asarray(land.filter(kind(size))) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return np.asarray((most > least).repeat(CELL, 0).repeat(CELL, 1))


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
    lines = lines_apart(picture, edges(request), np.random.default_rng(0))
    shores = coasts(request)
    borders = {name: border(picture, region, shores) for name, region in zip(names, request.regions, strict=True)}
    checks = {f"{name}: {BAR:.0%} show {found['asked']}": found["shown"] >= BAR for name, found in regions.items()}
    for name, found in lines.items():
        checks[f"{name}: edges like other lines"] = found["mean"] <= max(1.05, lines["placebo"]["to"])
    for name, found in borders.items():
        checks[f"{name}: no line on its border"] = found["where it fades"] <= max(1.5, found["elsewhere"])
    figures = {
        "regions": regions, "regressor_recall": regressor().recall, "real_crops": real_shares(),
        "edges": lines, "borders": borders,
    }  # fmt: skip
    report("a planet by a scene file: regions obeyed, no seams", checks, figures)


if __name__ == "__main__":
    main()
