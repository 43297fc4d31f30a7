"""Atlases of known surfaces: cylinder, torus, the sphere as equirectangular map and as cube."""

from __future__ import annotations

from raytile.errors import InvalidRequest
from raytile.geometry.atlas import QUARTERS, Atlas, Face, Join
from raytile.geometry.box import Box

Direction = tuple[int, int, int]

CUBE: dict[str, tuple[Direction, Direction, Direction]] = {
    "right": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    "left": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "top": ((1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "bottom": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "front": ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "back": ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
}
"""Where a face's columns, its rows and its middle point to, (x, y, z), in the order of the faces: those of OpenGL's
cube maps (OpenGL 4.6 core, table 8.19), which show a face as it is seen from inside, z ahead, y up."""


def cylinder(height: int, width: int) -> Atlas:
    """One face whose left side meets its right."""
    return _single(height, width, Join(((0, "right"),), ((0, "left"),)))


def torus(height: int, width: int) -> Atlas:
    """One face whose left side meets its right, and whose top meets its bottom."""
    return _single(height, width, Join(((0, "right"),), ((0, "left"),)), Join(((0, "bottom"),), ((0, "top"),)))


def equirectangular(height: int, width: int) -> Atlas:
    """A map of a sphere, its columns being longitudes: left meets right, and beyond a pole lies the other side of the
    sphere, half a turn away, upside down. An odd width is an `InvalidRequest`."""
    if width % 2:
        raise InvalidRequest(
            f"width: a map of a sphere takes an even number of cells, such as {width + 1} (got {width})"
        )
    half = width // 2
    north = Join(((0, "top"),), ((0, "top"),), mirrored=True, shift=half)
    south = Join(((0, "bottom"),), ((0, "bottom"),), mirrored=True, shift=half)
    return _single(height, width, Join(((0, "right"),), ((0, "left"),)), north, south)


def cube(face: int) -> Atlas:
    """A cube of 3 x 2 faces of `face` x `face` cells: right, left, top / bottom, front, back."""
    boxes = (Box(0, face, 0, face).shift(k // 3 * face, k % 3 * face) for k in range(6))
    faces = tuple(Face(name, box) for name, box in zip(CUBE, boxes, strict=True))
    middles = [middle for _, _, middle in CUBE.values()]
    ways = [
        {"right": across, "left": _opposite(across), "bottom": down, "top": _opposite(down)}
        for across, down, _ in CUBE.values()
    ]
    joins = []
    for one, sides in enumerate(ways):
        for edge in QUARTERS:
            # The face that lies where this side points to; its side that points to where this face lies meets this one.
            other = middles.index(sides[edge])
            (met,) = (entered for entered in QUARTERS if ways[other][entered] == middles[one])
            if one < other:
                joins.append(Join(((one, edge),), ((other, met),)))
    return Atlas(faces, tuple(joins))


def _single(height: int, width: int, *joins: Join) -> Atlas:
    return Atlas((Face("map", Box(0, height, 0, width)),), joins)


def _opposite(direction: Direction) -> Direction:
    x, y, z = direction
    return -x, -y, -z
