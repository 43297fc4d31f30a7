"""A small made-up world, so that no test needs the map package."""

from __future__ import annotations

import numpy as np
import pytest

from raytile.train.world import HEIGHT, SCALES, WIDTH, World


@pytest.fixture(scope="session")
def world() -> World:
    """Land in wavy blobs, green or tan, white near the poles; all four zooms of true size."""
    y, x = np.meshgrid(np.arange(0, HEIGHT, 8), np.arange(0, WIDTH, 8), indexing="ij")
    waves = np.sin(x / WIDTH * 14 * np.pi) + np.cos(y / HEIGHT * 9 * np.pi) + 0.5 * np.sin(x / 37.0 + y / 53.0)
    land = waves > 0.2
    polar = np.abs(y / HEIGHT - 0.5) > 0.38
    tan = np.sin(x / WIDTH * 6 * np.pi) > 0
    colour = np.where(tan[..., None], (190, 160, 110), (30, 60, 20))
    colour = np.where(polar[..., None], 245, colour)
    satellite = np.where(land[..., None], colour, (5, 15, 60)).astype(np.uint8)
    relief = (satellite // 2 + 110).astype(np.uint8)
    mask = np.where(land, 255, 0).astype(np.uint8)

    def at(picture: np.ndarray, scale: float) -> np.ndarray:
        times = round(8 * scale)
        return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1))

    maps = {"satellite": satellite, "relief": relief}
    return World(
        {style: tuple(at(picture, scale) for scale in SCALES) for style, picture in maps.items()},
        tuple(at(mask, scale) for scale in SCALES),
        at((mask * (waves > 1.0)).astype(np.uint8), 0.25),
    )
