"""Measures say what they should of pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from raytile.geometry.atlas import Atlas, Face, Join
from raytile.geometry.box import Box
from raytile.geometry.forms import cube, equirectangular, torus
from raytile.plan.scene import Region
from tests.acceptance import measures, strategies_planet, strategies_style
from tests.acceptance.measures import Floats
from tests.acceptance.measures_earth import BLOCK, among_islands, features
from tests.acceptance.strategies_digests import cases
from tests.acceptance.strategies_oracles import figures_of


@pytest.fixture
def wave() -> Floats:
    """A picture [128, 256, 3] that is smooth across its wrapped sides."""
    y, x = np.mgrid[0:128, 0:256] * 2 * np.pi
    one = 0.5 + 0.2 * np.sin(x / 256) + 0.2 * np.cos(2 * y / 128)
    return np.repeat(one[..., None], 3, axis=-1)


def test_sides_that_meet_are_like_lines_inside(wave: Floats) -> None:
    atlas = torus(128, 256)
    for pair in measures.pairs(atlas):
        a, b = measures.side_strips(wave, atlas, *pair, 20)
        assert measures.tiling_score(a, b) < 0.02
        assert measures.step_ratio(a, b) < 2.0
    a, b = measures.side_strips(wave[:100, :200], torus(100, 200), (0, "right"), (0, "left"), 20)
    assert measures.tiling_score(a, b) > 0.1
    assert measures.step_ratio(a, b) > 10


def test_the_score_is_the_largest_of_three_steps() -> None:
    a, b = np.zeros((4, 40, 3)), np.zeros((4, 40, 3))
    b[:, 16:] = 0.25  # 15 pixels beyond the first that b shares with its strip
    assert measures.tiling_score(a, b) == 0.25
    a[:, -1] = 0.5
    assert measures.tiling_score(a, b) == 0.5


def test_strips_walk_on_over_a_seam() -> None:
    picture = np.random.default_rng(0).random((32, 48, 3))
    a, b = measures.side_strips(picture, torus(32, 48), (0, "right"), (0, "left"), 5)
    assert np.array_equal(np.concatenate([a, b], axis=1), np.concatenate([picture[:, -5:], picture[:, :5]], axis=1))
    a, b = measures.side_strips(picture, torus(32, 48), (0, "bottom"), (0, "top"), 5)
    rolled = np.concatenate([picture[-5:], picture[:5]])
    assert np.array_equal(np.concatenate([a, b], axis=1), rolled.swapaxes(0, 1))


def test_every_pair_that_may_meet_is_named_once() -> None:
    assert len(list(measures.pairs(cube(16)))) == 12
    assert len(list(measures.pairs(equirectangular(16, 32)))) == 3
    boxes = [Face(name, Box(0, 8, x, x + 8)) for name, x in (("a", 0), ("b", 8))]
    right, left = ((0, "right"), (1, "right")), ((0, "left"), (1, "left"))
    assert len(list(measures.pairs(Atlas(tuple(boxes), (Join(right, left),))))) == 4  # type: ignore[arg-type]


def test_correlation_of_a_wave(wave: Floats) -> None:
    field = wave[..., 0] - wave[..., 0].mean(axis=1, keepdims=True)
    same, quarter, half = measures.correlation(field, [256, 64, 128], wrap=True)
    assert same == pytest.approx(1)
    assert quarter == pytest.approx(0, abs=1e-9)
    assert half == pytest.approx(-1)


def test_octaves_hold_all_of_the_variance(wave: Floats) -> None:
    low = measures.octaves(wave[..., 0])
    noise = measures.octaves(np.random.default_rng(0).random((128, 256)))
    assert sum(low) == pytest.approx(1)
    assert sum(noise) == pytest.approx(1)
    assert sum(low[:2]) > 0.95 > 0.01 > sum(noise[:2])


def test_a_line_shows_among_those_of_its_phase(wave: Floats) -> None:
    noisy = wave + 0.01 * np.random.default_rng(0).standard_normal(wave.shape)
    assert max(measures.line_ratios(noisy, [64, 128])) < 1.5
    noisy[:, 128:] += 0.1
    calm, cut = measures.line_ratios(noisy, [64, 128])
    assert calm < 1.5 < 5 < cut


def test_pictures_of_equal_colours_are_alike(wave: Floats) -> None:
    tiles = measures.tiles_of(wave, 64)
    assert len(tiles) == 8
    assert measures.mean_distance([measures.histogram(tile) for tile in (tiles[0], tiles[0][::-1])]) == 0
    black, white = np.zeros((8, 8, 3)), np.ones((8, 8, 3))
    assert measures.mean_distance([measures.histogram(black), measures.histogram(white)]) == 1


def test_blocks_and_islands(wave: Floats) -> None:
    assert features(wave).shape == (128 // BLOCK, 256 // BLOCK, 28)
    ground = np.zeros((40, 40), dtype=np.int64)
    assert not among_islands(ground).any()
    ground[19:22, 18] = 3
    ground[20:23, 22:24] = 3
    assert among_islands(ground)[21, 21]
    assert not among_islands(ground)[5, 5]
    assert not among_islands(np.ones_like(ground)).any()


def test_words_of_regions_say_what_to_look_for() -> None:
    assert strategies_planet.asked("satellite view, jungle, dark forest, tropical") == ("forest",)
    assert strategies_planet.asked("many small islands, warm sea") == ("islands",)
    assert strategies_planet.asked("open ocean, blue water") == ("water",)


def test_a_line_on_a_border_shows_and_a_coast_of_the_map_does_not() -> None:
    region = Region(prompt="ice", box=(128, 128, 320, 320), feather=32)
    dull = np.random.default_rng(0).normal(0.5, 0.02, (576, 576, 3))
    drawn = dull.copy()
    drawn[128:448, 128:448] += 0.2
    nowhere, there = np.zeros((576, 576), dtype=bool), np.zeros((576, 576), dtype=bool)
    there[100:476, 100:476] = True
    there[156:420, 156:420] = False
    assert strategies_planet.border(dull, region, nowhere)["where it fades"] < 1.2
    assert strategies_planet.border(drawn, region, nowhere)["where it fades"] > 1.5
    assert strategies_planet.border(drawn, region, there)["where it fades"] == 0


def test_distance_of_styles() -> None:
    drawn = np.random.default_rng(0).standard_normal((500, 6))
    assert strategies_style.frechet(drawn, drawn) == pytest.approx(0, abs=1e-6)
    assert strategies_style.frechet(drawn, drawn + 2) == pytest.approx(24)


def test_figures_are_read_as_they_are_printed() -> None:
    said = ".\noracle | weights, 8 cells | 6.5e-08\n.\noracle | whole run | 0.0e+00\n"
    assert figures_of(said) == {"weights, 8 cells": 6.5e-08, "whole run": 0.0}


def test_every_strategy_has_a_case() -> None:
    taken = {name: {"path": f"/{name}"} for name in ("source", "mask", "parent")}
    found = cases(taken).values()
    for name, values in {
        "sync": {"shift", "overlap"},
        "topology": {"flat", "cube", "equirectangular"},
        "enlarge": {"latents", "pixels"},
        "dilated": {False, True},
        "skip_residual": {False, True},
    }.items():
        assert {getattr(request, name) for request in found} == values
    for name in ("tileset", "regions", "control", "source", "repaint", "place"):
        assert any(getattr(request, name) for request in found)
