"""Atlases that requests ask for: spheres, and tilesets laid out on one canvas. Tilesets are read from JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isqrt
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raytile.errors import InvalidRequest, shown
from raytile.geometry.atlas import QUARTERS, Atlas, Face, Join, Side
from raytile.geometry.box import Box
from raytile.geometry.forms import cube, equirectangular
from raytile.plan.request import RenderRequest
from raytile.plan.scene import TilePicture, Tileset

NAME = r"^[A-Za-z0-9_-]{1,64}$"
STRIP = 2
"""Cells next to sides that are alike, at the finest level, that are the same in all of them in the end."""
MOST = 2**24  # characters of a file
Colour = Annotated[str | int, Field(union_mode="left_to_right")]


def atlas_of(request: RenderRequest, factor: int, cells: tuple[int, int]) -> Atlas | None:
    """The atlas of a level of `cells` (height, width); `factor` pixels make a cell. None where the canvas is flat.

    Raises `InvalidRequest` where the request's size is not `size`, or the level does not divide it."""
    if request.topology == "flat" and request.tileset is None:
        return None
    width, height = size(request, factor)
    if (request.width, request.height) != (width, height):
        what = (
            "these pictures take" if request.tileset else f"{request.topology} takes {_RULE[request.topology]}, such as"
        )
        raise InvalidRequest(f"size: {what} {width}x{height} pixels (got {request.width}x{request.height})")
    if request.tileset is not None:
        atlas = _tileset_atlas(request.tileset, factor)
    elif request.topology == "cube":
        atlas = cube(height // 2 // factor)
    else:
        atlas = equirectangular(height // factor, width // factor)
    divisor = max(1, height // factor // cells[0])
    if (cells[0] * divisor, cells[1] * divisor) != (height // factor, width // factor):
        raise InvalidRequest(
            f"levels: {cells[1]}x{cells[0]} cells are no whole part of {width // factor}x{height // factor}"
        )
    return atlas.scaled(divisor)


_RULE = {"cube": "3 x 2 square faces", "equirectangular": "twice its height for a width"}


def size(request: RenderRequest, factor: int) -> tuple[int, int]:
    """The (width, height) in pixels that the canvas takes: of a tileset what its pictures need, of a sphere what is
    nearest to the request's width."""
    if request.tileset is not None:
        return canvas_size(request.tileset, factor)
    if request.topology == "cube":
        face = max(1, round(request.width / 3 / factor)) * factor
        return 3 * face, 2 * face
    if request.topology == "equirectangular":
        height = max(1, round(request.width / 2 / factor)) * factor
        return 2 * height, height
    return request.width, request.height


def canvas_size(tileset: Tileset | Mapping[str, Any], factor: int) -> tuple[int, int]:
    """The (width, height) in pixels of the canvas that holds all pictures."""
    found = tileset if isinstance(tileset, Tileset) else parse_tileset(tileset)
    boxes = layout(found, factor)
    return max(box.x1 for box in boxes), max(box.y1 for box in boxes)


def layout(tileset: Tileset, factor: int) -> tuple[Box, ...]:
    """Where each picture lies on the canvas, in pixels, in the order of the pictures; none overlap.

    They stand on shelves, the tallest first, as wide as makes the canvas most compact: the shortest way round it, then
    the smallest area. Sizes that are no multiples of `factor` are an `InvalidRequest`."""
    pictures = tileset.pictures
    for number, picture in enumerate(pictures):
        for name, pixels in (("width", picture.width), ("height", picture.height)):
            if pixels % factor:
                near = max(1, round(pixels / factor)) * factor
                raise InvalidRequest(
                    f"tileset.pictures.{number}.{name}: must be a multiple of {factor} pixels,"
                    f" such as {near} (got {pixels})"
                )
    order = sorted(range(len(pictures)), key=lambda k: (-pictures[k].height, -pictures[k].width, k))
    few = min(len(order), 2 * isqrt(len(order)) + 8)
    widths = {sum(pictures[k].width for k in order[:count]) for count in range(1, few + 1)}
    widest = max(picture.width for picture in pictures)
    tried = [_shelves(pictures, order, max(width, widest)) for width in sorted(widths)]
    return min(tried, key=_extent)


def read_tileset(path: str | Path) -> Tileset:
    """A tileset from a JSON file; see `parse_tileset`. `InvalidRequest`, one line, names the field and the fix."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MOST + 1)
        if len(text) > MOST:
            raise InvalidRequest(f"tileset: {path} is too long: at most {MOST} characters")
        data = json.loads(text)
    except OSError as error:
        raise InvalidRequest(f"tileset: cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"tileset: {path} is not JSON: {str(error).splitlines()[0]}") from None
    return parse_tileset(data)


def parse_tileset(data: object) -> Tileset:
    """A tileset from either of two forms: {"pictures": [...], "seams": [...]} (see `Tileset`), or a Wang set:

        {"size": 256, "tiles": [{"name": "a", "top": "red", "right": 1, "bottom": "blue", "left": 2}, ...]}

    with the colours of the sides. Those at the right match those at the left, those at the bottom those at the top.
    `size`: in pixels, one number or [width, height]; or each tile has its own. Sides without a colour, or whose colour
    nothing matches, stay free."""
    if not isinstance(data, Mapping) or ("tiles" in data) == ("pictures" in data):
        raise InvalidRequest('tileset: give an object with either "pictures" (and "seams") or "tiles"')
    try:
        found = _of_colours(_WangSet.model_validate(data)) if "tiles" in data else Tileset.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("tileset", *first["loc"]) if part not in _BRANCHES)
        wanted = "a colour is a word or a whole number" if "str" in first["loc"][-1:] else first["msg"]
        raise InvalidRequest(f"{where}: {wanted} (got {shown(first['input'])})") from None
    _tileset_atlas(found, 1)
    return found


_BRANCHES = ("str", "int", "tuple[int, int]")
"""Of unions: what pydantic names beside the fields."""


class _WangTile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, pattern=NAME)
    top: Colour | None = None
    right: Colour | None = None
    bottom: Colour | None = None
    left: Colour | None = None
    size: int | tuple[int, int] | None = None
    width: int | None = None
    height: int | None = None


class _WangSet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tiles: tuple[_WangTile, ...] = Field(min_length=1, max_length=1024)
    size: int | tuple[int, int] | None = None


def _of_colours(wang: _WangSet) -> Tileset:
    pictures: list[dict[str, Any]] = []
    for number, tile in enumerate(wang.tiles):
        whole = tile.size or wang.size
        width, height = (whole, whole) if whole is None or isinstance(whole, int) else whole
        width, height = tile.width or width, tile.height or height
        if width is None or height is None:
            raise InvalidRequest(f"tileset.tiles.{number}.size: missing: give it in pixels, here or beside tiles")
        pictures.append({"name": tile.name or f"tile{number + 1}", "width": width, "height": height})
    names, seams = [picture["name"] for picture in pictures], []
    for near, far in (("right", "left"), ("bottom", "top")):
        ones, others = (_by_colour(wang, names, edge) for edge in (near, far))
        seams += [{"one": ones[colour], "other": others[colour]} for colour in ones if colour in others]
    return Tileset.model_validate({"pictures": pictures, "seams": seams})


def _by_colour(wang: _WangSet, names: list[str], edge: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for tile, name in zip(wang.tiles, names, strict=True):
        colour = getattr(tile, edge)
        if colour is not None:
            found[str(colour)] = (*found.get(str(colour), ()), f"{name}.{edge}")
    return found


def _tileset_atlas(tileset: Tileset, factor: int) -> Atlas:
    names = [picture.name for picture in tileset.pictures]
    for number, name in enumerate(names):
        if names.index(name) != number:
            raise InvalidRequest(f"tileset.pictures.{number}.name: {name!r} is taken: give each picture its own")
    boxes = (Box(*(edge // factor for edge in box)) for box in layout(tileset, factor))
    faces = tuple(Face(name, box) for name, box in zip(names, boxes, strict=True))
    numbers = {name: number for number, name in enumerate(names)}
    joins = []
    for number, seam in enumerate(tileset.seams):
        one, other = (
            tuple(_sides(sides, numbers, f"tileset.seams.{number}.{field}"))
            for field, sides in (("one", seam.one), ("other", seam.other))
        )
        joins.append(Join(one, other, seam.mirrored))
    return Atlas(faces, tuple(joins), STRIP)


def _sides(sides: tuple[str, ...], numbers: Mapping[str, int], where: str) -> Iterator[Side]:
    edges = {str(edge): edge for edge in QUARTERS}
    for side in sides:
        name, _, edge = side.rpartition(".")
        if name not in numbers:
            raise InvalidRequest(
                f"{where}: {side!r} names no picture: write NAME.SIDE, such as {next(iter(numbers))}.right"
            )
        if edge not in edges:
            raise InvalidRequest(f"{where}: {side!r} names no side: end it in one of {', '.join(edges)}")
        yield numbers[name], edges[edge]


def _shelves(pictures: tuple[TilePicture, ...], order: list[int], width: int) -> tuple[Box, ...]:
    boxes: dict[int, Box] = {}
    top = left = tall = 0
    for k in order:
        if left + pictures[k].width > width:
            top, left, tall = top + tall, 0, 0
        boxes[k] = Box(top, top + pictures[k].height, left, left + pictures[k].width)
        left, tall = boxes[k].x1, max(tall, pictures[k].height)
    return tuple(boxes[k] for k in range(len(pictures)))


def _extent(boxes: tuple[Box, ...]) -> tuple[int, int, int]:
    height, width = max(box.y1 for box in boxes), max(box.x1 for box in boxes)
    return height + width, height * width, width
