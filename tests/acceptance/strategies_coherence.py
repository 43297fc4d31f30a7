"""Does a cascade hold a large picture together? 4096x2048 in levels and in one, with one prompt, beside the Earth.

No network that could say how alike pictures look (LPIPS) is at hand: land masks, colours and low-passed tiles speak."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytile.api import render
from raytile.canvas import store
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest
from tests.acceptance.common import KEPT, report, say
from tests.acceptance.measures import Floats, correlation, histogram, mean_distance, octaves, tiles_of
from tests.acceptance.measures_earth import BLOCK, earth, land

WIDTH, HEIGHT, TILE = 4096, 2048, 256
PROMPT = "satellite view, continents, oceans and continents, coast"
WAYS: dict[str, dict[str, Any]] = {"levels": {}, "one level": {"levels": 1}}
FAR = (1, 2, 4, 8, 16, 32, 64, 128)
"""Blocks of 16 pixels, at which the land mask is compared with itself."""


def paint(folder: Path, way: str) -> NDArray[np.uint8]:
    """The picture; a finished canvas in `folder` is taken as it is."""
    out = folder / f"{way.replace(' ', '-')}.zarr"
    wish = {"prompt": PROMPT, "width": WIDTH, "height": HEIGHT, "wrap": "x", "seed": 5, **WAYS[way]}
    render(RenderRequest.parse(**wish), out, in_process=True, device="cpu", resume=True)
    found = store.open(str(out))
    return np.asarray(found.read_image(Box(0, HEIGHT, 0, WIDTH)).transpose(1, 2, 0))


def repeated(tiles: list[Floats]) -> float:
    """Mean over tiles of the correlation with the tile most like it, in luminance at 16x16."""
    size = tiles[0].shape[0] // 16
    small = np.stack([tile.reshape(16, size, 16, size, 3).mean((1, 3, 4)).ravel() for tile in tiles])
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(1e-9, np.linalg.norm(small, axis=1, keepdims=True))
    alike = small @ small.T
    np.fill_diagonal(alike, -1)
    return float(alike.max(1).mean())


def measure(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    picture = np.asarray(pixels / 255.0)
    mask = land(picture)
    tiles = tiles_of(picture, TILE)
    shares = np.array([tile.mean() for tile in tiles_of(mask, TILE // BLOCK)])
    correlations = [round(each, 3) for each in correlation(mask, [*FAR], wrap=True)]
    return {
        "land": round(float(mask.mean()), 3),
        "land_correlation": dict(zip([BLOCK * far for far in FAR], correlations, strict=True)),
        "land_spectrum_octaves": [round(share, 3) for share in octaves(mask)],
        "tiles_land_deviation": round(float(shares.std()), 3),
        "tiles_all_land_or_all_sea": round(float(((shares < 0.03) | (shares > 0.97)).mean()), 3),
        "tiles_colour_distance": round(mean_distance([histogram(tile) for tile in tiles]), 3),
        "tiles_likest": round(repeated(tiles), 3),
    }


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How far two land masks' correlations are apart, on average over distances."""
    a, b = (np.array(list(each["land_correlation"].values())) for each in (one, other))
    return round(float(np.abs(a - b).mean()), 3)


def main() -> None:
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    KEPT.mkdir(exist_ok=True)
    figures: dict[str, Any] = {"prompt": PROMPT}
    real = np.asarray(Image.fromarray(earth()).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    figures["earth"] = measure(real)
    say("earth", figures["earth"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("RAYTILE_COHERENCE") or scratch)
        for way in WAYS:
            pixels = paint(folder, way)
            name = f"strategies-coherence-{way.replace(' ', '-')}"
            Image.fromarray(pixels).save(KEPT / f"{name}.png")
            Image.fromarray(pixels).resize((WIDTH // 4, HEIGHT // 4)).save(KEPT / f"{name}-small.png")
            figures[way] = measure(pixels)
            figures[way]["correlation_from_earth"] = distance(figures[way], figures["earth"])
            say(way, figures[way])
    levels, one = figures["levels"], figures["one level"]
    far = 16 * BLOCK
    checks = {
        "levels: land hangs together over 256 pixels": levels["land_correlation"][far] > one["land_correlation"][far],
        "levels: nearer to the Earth in how land hangs together": (
            levels["correlation_from_earth"] < one["correlation_from_earth"]
        ),
        "levels: tiles differ more in colour": levels["tiles_colour_distance"] > one["tiles_colour_distance"],
        "levels: more of the variance of land is in its lowest octaves": (
            sum(levels["land_spectrum_octaves"][:3]) > sum(one["land_spectrum_octaves"][:3])
        ),
    }
    report("coherence of a cascade beside one level and the Earth", checks, figures)


if __name__ == "__main__":
    main()
