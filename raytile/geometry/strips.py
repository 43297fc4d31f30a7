"""Strips: cells next to sides that are alike, and so are the same in several faces.

Where strips cross, in the corner squares of a face, what is the same follows from one strip to the next. That never
makes a square the same as itself turned: sides that are alike meet turned, never mirrored, so a corner of a face is
turned by as many quarters as lie between it and the other corner, whatever the strips that lead there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytile.errors import InvalidRequest
from raytile.geometry.box import Box, minus
from raytile.geometry.turn import compose, extent, inverse, place

Zone = tuple[tuple[Box, int], ...]
"""Boxes that are the same, each with the turn that makes it of the first one."""


class Copy(NamedTuple):
    """Cells `part` of the canvas hold what cells `box` do, turned by `turn`."""

    part: Box
    box: Box
    turn: int


@dataclass(frozen=True)
class Strips:
    """What is the same as what: `zones`, in no two of which a cell lies."""

    zones: tuple[Zone, ...]

    def origin(self, box: Box) -> tuple[Copy, ...]:
        """For every part of `box` the cells it repeats: those of the first of its zone, else itself."""
        found: list[Copy] = []
        for row in self._touching(box):
            zone, member = self._rows[row]
            (first, _), (whole, turn) = self.zones[zone][0], self.zones[zone][member]
            common = whole.intersect(box)
            found.append(Copy(common, _moved(common, whole, first, inverse(turn)), turn))
        rest = minus(box, [copy.part for copy in found])
        return (*found, *(Copy(part, part, 0) for part in rest))

    def copies(self, box: Box) -> tuple[tuple[Box, int], ...]:
        """All that is the same as `box`, which is the box of an origin, itself first; and the turn that makes it."""
        for row in self._touching(box):
            zone, _ = self._rows[row]
            first = self.zones[zone][0][0]
            return tuple((_moved(box, first, whole, turn), turn) for whole, turn in self.zones[zone])
        return ((box, 0),)

    def twins(self, box: Box) -> tuple[Copy, ...]:
        """For parts of `box` that are in a zone, each other box that holds the same."""
        return tuple(
            Copy(copy.part, twin, compose(inverse(turn), copy.turn))
            for copy in self.origin(box)
            for twin, turn in self.copies(copy.box)
            if twin != copy.part
        )

    def _touching(self, box: Box) -> list[int]:
        if not self.zones:
            return []
        y0, y1, x0, x1 = self._boxes.T
        return np.flatnonzero((y0 < box.y1) & (y1 > box.y0) & (x0 < box.x1) & (x1 > box.x0)).tolist()

    @cached_property
    def _rows(self) -> list[tuple[int, int]]:
        return [(number, member) for number, zone in enumerate(self.zones) for member in range(len(zone))]

    @cached_property
    def _boxes(self) -> NDArray[np.int64]:
        return np.array([box for zone in self.zones for box, _ in zone])


def strips_of(faces: Sequence[Box], alike: Sequence[Sequence[tuple[int, int]]], depth: int) -> Strips:
    """The strips, `depth` cells deep, of groups of sides that are alike. A side is (face, quarter turns from right).

    Raises `InvalidRequest` where a face is too small for the strips of two opposite sides."""
    zones: list[Zone] = []
    squares: dict[Box, list[tuple[Box, int]]] = defaultdict(list)
    for group in alike:
        for face, _ in group:
            if min(faces[face].height, faces[face].width) < 2 * depth:
                raise InvalidRequest(
                    f"seams: a picture with sides alike to others takes at least {2 * depth} cells a side"
                )
        (first, quarter), length = group[0], _length(faces[group[0][0]], group[0][1])
        if length > 2 * depth:
            zones.append(
                tuple((_strip(faces[f], q, depth, length - depth, depth), (q - quarter) % 4) for f, q in group)
            )
        for start in (0, length - depth):
            one = _strip(faces[first], quarter, start, start + depth, depth)
            for f, q in group[1:]:
                other = _strip(faces[f], q, start, start + depth, depth)
                squares[one].append((other, (q - quarter) % 4))
                squares[other].append((one, (quarter - q) % 4))
    return Strips((*zones, *_chains(squares)))


def _chains(squares: dict[Box, list[tuple[Box, int]]]) -> list[Zone]:
    """Squares that are the same, directly or by way of others."""
    chains: list[Zone] = []
    seen: set[Box] = set()
    for root in squares:
        if root in seen:
            continue
        chain, todo = {root: 0}, [root]
        while todo:
            one = todo.pop(0)
            for other, turn in squares[one]:
                if other not in chain:
                    chain[other] = compose(chain[one], turn)
                    todo.append(other)
        seen |= chain.keys()
        chains.append(tuple(chain.items()))
    return chains


def _length(face: Box, quarter: int) -> int:
    return face.width if quarter % 2 else face.height


def _strip(face: Box, quarter: int, start: int, stop: int, depth: int) -> Box:
    """The cells at positions [start, stop), clockwise, of a side, `depth` deep."""
    y0, y1, x0, x1 = face
    return (
        Box(y0 + start, y0 + stop, x1 - depth, x1),
        Box(y0, y0 + depth, x0 + start, x0 + stop),
        Box(y1 - stop, y1 - start, x0, x0 + depth),
        Box(y1 - depth, y1, x1 - stop, x1 - start),
    )[quarter]


def _moved(part: Box, whole: Box, onto: Box, turn: int) -> Box:
    """Where `part` of `whole` lies when `whole`, turned, is `onto`."""
    y, x = place(turn, whole.height, whole.width, part.shift(-whole.y0, -whole.x0))
    height, width = extent(turn, part.height, part.width)
    return Box(onto.y0 + y, onto.y0 + y + height, onto.x0 + x, onto.x0 + x + width)
