"""How much of a point or a rectangle a shape covers: pure arithmetic on pixels of the finished picture.

Every value belongs to its point alone, so it is the same whatever window or tile it is worked out for (law 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raytile.plan.scene import Shape

Floats = NDArray[np.float64]
Period = tuple[int | None, int | None]
"""(height, width) after which a wrapped picture comes again; None where it does not."""


def cover(shape: Shape, y: Floats, x: Floats, period: Period = (None, None), inward: bool = False) -> Floats:
    """How much of each point (y, x) the box or polygon of `shape` covers, in [0, 1].

    Its edge fades over `feather` pixels: half of them outside, or with `inward` all of them inside."""
    best: Floats = np.full(np.broadcast(y, x).shape, -np.inf)
    for dy in _repeats(period[0]):
        for dx in _repeats(period[1]):
            best = np.maximum(best, _depth(shape, y + dy, x + dx))
    if not shape.feather:
        return (best >= 0).astype(np.float64)  # on an edge that two shapes share, both have a point and nobody else
    return np.clip(best / shape.feather + (0.0 if inward else 0.5), 0.0, 1.0)


def near(shape: Shape, y: Floats, x: Floats, margin: float, period: Period = (None, None)) -> NDArray[np.bool_]:
    """Which points the box or polygon covers, or lies less than `margin` pixels away from."""
    found = np.zeros(np.broadcast(y, x).shape, dtype=bool)
    for dy in _repeats(period[0]):
        for dx in _repeats(period[1]):
            found |= _depth(shape, y + dy, x + dx) > -margin
    return found


def touches(shape: Shape, boxes: Floats, period: Period = (None, None)) -> NDArray[np.bool_]:
    """Which of `boxes` [n, (y0, y1, x0, x1)] the shape may cover a part of: those that meet its bounding box (all, for
    a mask that nobody has looked at)."""
    if shape.mask is not None and shape.mask.lit is None:
        return np.ones(len(boxes), dtype=bool)
    top, bottom, left, right = _bounds(shape)
    found = np.zeros(len(boxes), dtype=bool)
    for dy in _repeats(period[0]):
        for dx in _repeats(period[1]):
            rows = (boxes[:, 0] + dy < bottom) & (boxes[:, 1] + dy > top)
            found |= rows & (boxes[:, 2] + dx < right) & (boxes[:, 3] + dx > left)
    return found


def fills(shape: Shape, boxes: Floats) -> NDArray[np.bool_]:
    """Which of `boxes` lie wholly where a box covers everything; of other shapes nobody knows."""
    if shape.box is None:
        return np.zeros(len(boxes), dtype=bool)
    x, y, width, height = shape.box
    rim = shape.feather / 2
    rows = (boxes[:, 0] >= y + rim) & (boxes[:, 1] <= y + height - rim)
    return rows & (boxes[:, 2] >= x + rim) & (boxes[:, 3] <= x + width - rim)


def within(boxes: Floats, outer: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Which of `boxes` lie wholly inside `outer` (y0, y1, x0, x1)."""
    y0, y1, x0, x1 = outer
    return (boxes[:, 0] >= y0) & (boxes[:, 1] <= y1) & (boxes[:, 2] >= x0) & (boxes[:, 3] <= x1)


def _repeats(length: int | None) -> tuple[int, ...]:
    return (0,) if length is None else (0, length, -length)


def _bounds(shape: Shape) -> tuple[float, float, float, float]:
    """(top, bottom, left, right) of what the shape covers at all."""
    rim = shape.feather / 2
    box = shape.box if shape.mask is None else shape.mask.lit
    if box is not None:
        x, y, width, height = box
        return y - rim, y + height + rim, x - rim, x + width + rim
    corners = np.array(shape.polygon, dtype=np.float64)
    return corners[:, 1].min() - rim, corners[:, 1].max() + rim, corners[:, 0].min() - rim, corners[:, 0].max() + rim


def _depth(shape: Shape, y: Floats, x: Floats) -> Floats:
    """How far inside each point lies (negative outside), in pixels."""
    if shape.box is not None:
        left, top, width, height = shape.box
        sides: Sequence[Floats] = (x - left, left + width - x, y - top, top + height - y)
        deepest: Floats = np.minimum.reduce(np.broadcast_arrays(*sides))
        return deepest
    if shape.polygon is None:
        raise ValueError("a mask is looked up, not worked out")
    y, x = np.broadcast_arrays(y, x)
    inside = np.zeros(y.shape, dtype=bool)
    nearest: Floats = np.full(y.shape, np.inf)
    corners = shape.polygon
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if (ax, ay) == (bx, by):
            continue
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.where(inside, nearest, -nearest)
