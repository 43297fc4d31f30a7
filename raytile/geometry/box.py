"""Rectangles of latent cells, half open: `[y0, y1) x [x0, x1)`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Box(NamedTuple):
    """A half-open rectangle.

    >>> Box(0, 4, 2, 8).area
    24
    >>> Box(0, 4, 2, 8).intersect(Box(3, 9, 0, 3))
    Box(y0=3, y1=4, x0=2, x1=3)
    """

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def area(self) -> int:
        return max(0, self.height) * max(0, self.width)

    def intersect(self, other: Box) -> Box:
        """The common part; its area is 0 where there is none."""
        return Box(max(self.y0, other.y0), min(self.y1, other.y1), max(self.x0, other.x0), min(self.x1, other.x1))

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(min(self.y0, other.y0), max(self.y1, other.y1), min(self.x0, other.x0), max(self.x1, other.x1))

    def shift(self, dy: int, dx: int) -> Box:
        return Box(self.y0 + dy, self.y1 + dy, self.x0 + dx, self.x1 + dx)


def disjoint(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """The union of `boxes` as disjoint boxes, the same whatever their order or overlap.

    Sweeps the horizontal slabs between all edges, merges the intervals in each, and joins equal slabs that touch.

    >>> disjoint([Box(0, 2, 0, 4), Box(1, 3, 0, 4)])
    (Box(y0=0, y1=3, x0=0, x1=4),)
    """
    todo = [box for box in set(boxes) if box.area]
    if len(todo) <= 1:
        return tuple(todo)
    edges = sorted({edge for box in todo for edge in (box.y0, box.y1)})
    slabs: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for top, bottom in pairwise(edges):
        spans = _merge((box.x0, box.x1) for box in todo if box.y0 <= top and box.y1 >= bottom)
        if slabs and slabs[-1][1] == top and slabs[-1][2] == spans:
            slabs[-1] = (slabs[-1][0], bottom, spans)
        elif spans:
            slabs.append((top, bottom, spans))
    return tuple(Box(top, bottom, x0, x1) for top, bottom, spans in slabs for x0, x1 in spans)


def minus(box: Box, others: Iterable[Box]) -> tuple[Box, ...]:
    """What is left of `box` without `others`, as disjoint boxes.

    >>> minus(Box(0, 4, 0, 4), [Box(0, 4, 1, 9)])
    (Box(y0=0, y1=4, x0=0, x1=1),)
    """
    left = [box]
    for other in others:
        rest: list[Box] = []
        for one in left:
            common = one.intersect(other)
            if not common.area:
                rest.append(one)
                continue
            around = (
                Box(one.y0, common.y0, one.x0, one.x1),
                Box(common.y0, common.y1, one.x0, common.x0),
                Box(common.y0, common.y1, common.x1, one.x1),
                Box(common.y1, one.y1, one.x0, one.x1),
            )
            rest.extend(part for part in around if part.area)
        left = rest
    return tuple(left)


def _merge(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)
