"""How well sides meet: the tiling score of terra's pictures, beside the same taken inside them, and without seams."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from raytile.api import plan, render
from raytile.geometry.atlas import Atlas, Face
from raytile.geometry.forms import cube, equirectangular, torus
from raytile.plan import tilesets
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Tileset
from tests.acceptance.common import KEPT, report, say
from tests.acceptance.measures import Floats, W, inside_strips, pairs, side_strips, step_ratio, tiling_score

SIDE = 512
DEPTH = 80
SEEDS = (7, 8)
PROMPT = "satellite view, islands, forest, desert, coast, tropical sea"
MOST, LIKE_INSIDE = 0.05, 1.3
LONELY = Tileset.model_validate({"pictures": [{"name": f"p{k}", "width": SIDE, "height": SIDE} for k in range(6)]})


def squares(count: int, seams: list[dict[str, Any]]) -> dict[str, Any]:
    pictures = [{"name": "abc"[k], "width": SIDE, "height": SIDE} for k in range(count)]
    tileset = Tileset.model_validate({"pictures": pictures, "seams": seams})
    width, height = tilesets.canvas_size(tileset, 8)
    return {"tileset": tileset, "width": width, "height": height}


def wishes() -> dict[str, tuple[dict[str, Any], dict[str, Any], Atlas]]:
    """By name: the request, the same without the constraint, and how the sides of both meet, in pixels."""
    one = [{"one": ["a.right"], "other": ["b.left"]}, {"one": ["a.top"], "other": ["b.bottom"]}]
    turned = [{"one": ["a.right"], "other": ["b.top"]}, {"one": ["a.bottom"], "other": ["b.left"]}]
    many = [
        {"one": ["a.right", "b.right"], "other": ["a.left", "b.left"]},
        {"one": ["a.bottom", "b.bottom"], "other": ["a.top", "b.top"]},
    ]
    found: dict[str, tuple[dict[str, Any], dict[str, Any], Atlas]] = {}
    flat = {"width": SIDE, "height": SIDE}
    found["self"] = {**flat, "wrap": "xy"}, flat, torus(SIDE, SIDE)
    for name, seams in (("one to one", one), ("one to one, quarter turns", turned), ("many to many", many)):
        wish, without = squares(2, seams), squares(2, [])
        found[name] = wish, without, _atlas(wish)
    width, height = tilesets.canvas_size(LONELY, 8)
    without = {"width": width, "height": height, "tileset": LONELY}
    found["cube"] = {"width": 3 * SIDE, "height": 2 * SIDE, "topology": "cube"}, without, cube(SIDE)
    size = {"width": 2 * SIDE, "height": SIDE}
    found["equirectangular"] = {**size, "topology": "equirectangular"}, size, equirectangular(SIDE, 2 * SIDE)
    return found


def elsewhere(atlas: Atlas) -> Atlas:
    """The sides of a cube, on the canvas where `LONELY` has its pictures."""
    boxes = tilesets.layout(LONELY, 8)
    return Atlas(tuple(Face(face.name, box) for face, box in zip(atlas.faces, boxes, strict=True)), atlas.joins)


def _atlas(wish: dict[str, Any]) -> Atlas:
    request = RenderRequest.parse(prompt="", **wish)
    found = tilesets.atlas_of(request, 1, (request.height, request.width))
    assert found is not None
    return found


def paint(wish: dict[str, Any], seed: int) -> Floats:
    from raytile.geometry.box import Box

    request = RenderRequest.parse(prompt=PROMPT, seed=seed, **wish)
    with tempfile.TemporaryDirectory() as folder:
        canvas = render(request, Path(folder, "a.zarr"), in_process=True, device="cpu")
        pixels = canvas.read_image(Box(0, request.height, 0, request.width))
    return np.asarray(pixels.transpose(1, 2, 0) / 255.0)


def measure(pictures: list[Floats], atlas: Atlas) -> dict[str, float]:
    """Mean tiling score over all pairs of sides that may meet, and over the lines inside."""
    seams = [side_strips(picture, atlas, *pair, DEPTH) for picture in pictures for pair in pairs(atlas)]
    lines = [strips for picture in pictures for strips in inside_strips(picture, atlas, DEPTH)]
    scores, inner = ([tiling_score(*strips) for strips in group] for group in (seams, lines))
    ratios, usual = ([step_ratio(*strips) for strips in group] for group in (seams, lines[::3]))
    return {
        "pairs": len(scores),
        "score": round(float(np.mean(scores)), 4),
        "worst": round(max(scores), 4),
        "inside": round(float(np.mean(inner)), 4),
        "lines": len(inner),
        "over_inside": round(float(np.mean(scores) / np.mean(inner)), 3),
        "step_ratio": round(float(np.mean(ratios)), 3),
        "worst_step_ratio": round(max(ratios), 3),
        "step_ratio_inside": round(float(np.mean(usual)), 3),
        "step_ratio_inside_p95": round(float(np.percentile(usual, 95)), 3),
    }


def keep(name: str, picture: Floats, atlas: Atlas) -> None:
    """The picture, and what lies on both sides of each seam, one under the other, the seam upright in the middle."""
    from PIL import Image

    KEPT.mkdir(exist_ok=True)
    stem = "strategies-tiling-" + name.replace(",", "").replace(" ", "-")
    Image.fromarray(_bytes(picture)).save(KEPT / f"{stem}.png")
    rows = [np.concatenate(side_strips(picture, atlas, *pair, SIDE // 4), axis=1) for pair in pairs(atlas)]
    long = max(len(row) for row in rows)
    padded = [np.pad(row, ((0, long - len(row)), (4, 4), (0, 0)), constant_values=1.0) for row in rows]
    Image.fromarray(_bytes(np.concatenate(padded, axis=1))).save(KEPT / f"{stem}-seams.png")


def _bytes(picture: Floats) -> Any:
    return np.rint(255 * picture).astype(np.uint8)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    figures: dict[str, Any] = {"w": W, "side": SIDE, "seeds": len(SEEDS)}
    checks: dict[str, bool] = {}
    for name, (wish, without, atlas) in wishes().items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        say(name, plan(RenderRequest.parse(prompt=PROMPT, **wish)).tiling.count, "tiles")
        painted = [paint(wish, seed) for seed in SEEDS]
        keep(name, painted[0], atlas)
        figures[name] = found = {
            "joined": measure(painted, atlas),
            "apart": measure([paint(without, 7)], elsewhere(atlas) if name == "cube" else atlas),
        }
        say(name, found)
        checks[f"{name}: at most {MOST}"] = found["joined"]["score"] <= MOST
        checks[f"{name}: at most {LIKE_INSIDE} of inside"] = found["joined"]["over_inside"] <= LIKE_INSIDE
        checks[f"{name}: apart they do not meet"] = found["apart"]["over_inside"] > LIKE_INSIDE
    report("tiling score of terra: sides that meet are like lines inside", checks, figures)


if __name__ == "__main__":
    main()
