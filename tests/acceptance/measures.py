"""Measures of finished pictures, [height, width, 3] floats in [0, 1]: how sides meet, how lines show, how far things
are alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.atlas import Atlas, Side
from raytile.geometry.box import Box

Floats = NDArray[np.float64]
W = 15
"""Pixels from a side at which the tiling score looks, too."""
CELL = 8
"""Decoders have a grid of their own: lines are compared with lines of the same phase."""
OUT: dict[str, tuple[int, int]] = {"right": (0, 1), "top": (-1, 0), "left": (0, -1), "bottom": (1, 0)}


def tiling_score(a: Floats, b: Floats, w: int = W) -> float:
    """How well the right side of `a` meets the left side of `b`: the largest of the mean step between them and those
    `w` pixels inside each (Tiled Diffusion, Madar and Fried 2025)."""
    steps = (a[:, -1] - b[:, 0], a[:, -w - 1] - a[:, -w], b[:, w + 1] - b[:, w])
    return max(float(np.abs(step).mean()) for step in steps)


def side_strips(picture: Floats, atlas: Atlas, leaving: Side, entering: Side, depth: int) -> tuple[Floats, Floats]:
    """[length, depth, 3] each: what lies before side `leaving`, its last column at the side, and what lies beyond it
    when `entering` meets it, its first column at the side. The rows of both run along the seam."""
    here = np.array(list(_edge(atlas.faces[leaving[0]].box, leaving[1])))
    there = np.array([atlas.cross(leaving, entering, int(y), int(x)) for y, x in here])
    inward = -np.arange(depth)[None, :, None]
    before = here[:, None] + inward * np.array(OUT[leaving[1]])
    beyond = there[:, None] + inward * np.array(OUT[entering[1]])
    return picture[before[..., 0], before[..., 1]][:, ::-1], picture[beyond[..., 0], beyond[..., 1]]


def pairs(atlas: Atlas) -> Iterator[tuple[Side, Side]]:
    """All (leaving, entering) that may meet, each seam from one of its two sides."""
    for join in atlas.joins:
        seen: set[frozenset[Side]] = set()
        for one in join.one:
            for other in join.other:
                if frozenset((one, other)) not in seen:
                    seen.add(frozenset((one, other)))
                    yield one, other


def inside_strips(picture: Floats, atlas: Atlas, depth: int) -> Iterator[tuple[Floats, Floats]]:
    """What lies before and beyond each line between cells inside each face, clear of its sides, in both directions."""
    for _, box in atlas.faces:
        face = picture[box.y0 : box.y1, box.x0 : box.x1]
        for turned in (face, face.swapaxes(0, 1)):
            for x in range(-(-2 * depth // CELL) * CELL, turned.shape[1] - 2 * depth, CELL):
                yield turned[:, x - depth : x], turned[:, x : x + depth]


def step_ratio(a: Floats, b: Floats, lines: int = 8) -> float:
    """The mean step between the last column of `a` and the first of `b`, over that of the `lines` nearest lines between
    cells to either side: 1 where the seam is like any other line."""
    both = np.concatenate([a, b], axis=1)
    middle = a.shape[1]

    def step(x: int) -> float:
        return float(np.abs(both[:, x] - both[:, x - 1]).mean())

    near = [step(middle + CELL * k) for k in range(-lines, lines + 1) if k and 0 < middle + CELL * k < both.shape[1]]
    return step(middle) / float(np.mean(near))


def line_ratios(picture: Floats, at: list[int], phase: int = CELL, reach: int = 4) -> list[float]:
    """For each column of `at` the mean step onto it over that of the `reach` lines of its phase to either side."""
    steps = np.abs(np.diff(picture, axis=1)).mean(axis=(0, 2))
    found = []
    for x in at:
        near = [x + phase * k for k in range(-reach, reach + 1) if k and 0 < x + phase * k <= len(steps)]
        found.append(float(steps[x - 1] / max(1e-9, steps[np.array(near) - 1].mean())))
    return found


def correlation(field: Floats, distances: list[int], wrap: bool) -> list[float]:
    """Correlation of a field [h, w] with itself so many columns away."""
    found = []
    for distance in distances:
        if wrap:
            one, other = field, np.roll(field, -distance, axis=1)
        else:
            one, other = field[:, :-distance], field[:, distance:]
        a, b = one - one.mean(), other - other.mean()
        found.append(float((a * b).mean() / max(1e-12, a.std() * b.std())))
    return found


def octaves(field: Floats) -> list[float]:
    """Shares of a square-celled field's variance by octave of frequency, lowest first, in cycles over its height:
    below 2, 2 to 4, 4 to 8, ..., the rest."""
    height, width = field.shape
    power = np.abs(np.fft.fft2((field - field.mean()) * np.hanning(height)[:, None])) ** 2
    y, x = np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * height
    radius = np.hypot(y[:, None], x[None])
    edges = [0.0, *(2.0**k for k in range(1, int(np.log2(height)))), np.inf]
    shares = [power[(radius >= low) & (radius < high)].sum() for low, high in pairwise(edges)]
    return [float(share / max(1e-12, power.sum())) for share in shares]


def tiles_of(picture: Floats, side: int) -> list[Floats]:
    """Squares beside one another, row by row."""
    height, width = picture.shape[:2]
    corners = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    return [picture[y : y + side, x : x + side] for y, x in corners]


def histogram(tile: Floats, bins: int = 6) -> Floats:
    """Shares of colours, [bins ** 3]."""
    index = np.minimum((tile * bins).astype(int), bins - 1) @ np.array([bins * bins, bins, 1])
    return np.asarray(np.bincount(index.ravel(), minlength=bins**3) / index.size)


def mean_distance(features: list[Floats]) -> float:
    """Mean over all pairs of half the absolute difference (total variation, for histograms)."""
    return float(np.mean([0.5 * np.abs(a - b).sum() for a, b in combinations(features, 2)]))


def _edge(box: Box, edge: str) -> Iterator[tuple[int, int]]:
    """The pixels of a face at one of its sides."""
    rows = {"top": range(box.y0, box.y0 + 1), "bottom": range(box.y1 - 1, box.y1)}.get(edge, range(box.y0, box.y1))
    columns = {"left": range(box.x0, box.x0 + 1), "right": range(box.x1 - 1, box.x1)}.get(edge, range(box.x0, box.x1))
    return ((y, x) for y in rows for x in columns)
