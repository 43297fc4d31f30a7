"""What standard addresses of deep zoom mean, in integers: DeepZoom (Microsoft's DZI) and the IIIF Image API 3.0.

Nothing here reads a canvas."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from raytile.geometry.box import Box

TILE, OVERLAP = 512, 0
"""Side of a DeepZoom tile, and how far it reaches over its neighbours, in pixels."""
MOST_SIDE, MOST_AREA = 8192, 2**24
"""Of one IIIF answer, in pixels."""
CONTEXT = "http://iiif.io/api/image/3/context.json"
PROTOCOL = "http://iiif.io/api/image"
PROFILE = "http://iiif.io/api/image/3/level2.json"

Quality = Literal["default", "color", "gray", "bitonal"]
QUALITIES: tuple[Quality, ...] = ("default", "color", "gray", "bitonal")
FORMATS = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
KNOWN_FORMATS = (*FORMATS, "tif", "gif", "jp2", "pdf")
_DIGITS = r"[0-9]{1,12}"
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?|\.[0-9]{1,12}"


class BadAddress(ValueError):
    """An address that does not follow the standard, or asks for nothing that is there."""


class NotOffered(ValueError):
    """An address that follows the standard and asks for something optional that is not offered here."""


# -- DeepZoom --------------------------------------------------------------------------------------------------------


def levels(width: int, height: int) -> int:
    """How many levels there are; the last is the whole picture, each before half as large, level 0 a single pixel."""
    return (max(width, height) - 1).bit_length() + 1


def level_size(width: int, height: int, level: int) -> tuple[int, int]:
    """(width, height) of a level; `BadAddress` if there is none."""
    last = levels(width, height) - 1
    if not 0 <= level <= last:
        raise BadAddress(f"level: must be from 0 to {last}")
    scale = 1 << (last - level)
    return -(-width // scale), -(-height // scale)


def tile_box(
    width: int, height: int, level: int, column: int, row: int, tile: int = TILE, overlap: int = OVERLAP
) -> tuple[Box, int, int]:
    """Of a DeepZoom tile the box of the picture's pixels that it shows, its width and its height.

    Its pixels are blocks of the picture's, but those at the far edges, which are what is left."""
    across, down = level_size(width, height, level)
    columns, rows = -(-across // tile), -(-down // tile)
    if not (0 <= column < columns and 0 <= row < rows):
        raise BadAddress(f"tile: level {level} has {columns} columns and {rows} rows, from 0")
    x0, x1 = max(0, column * tile - overlap), min(across, (column + 1) * tile + overlap)
    y0, y1 = max(0, row * tile - overlap), min(down, (row + 1) * tile + overlap)
    scale = 1 << (levels(width, height) - 1 - level)
    box = Box(y0 * scale, min(y1 * scale, height), x0 * scale, min(x1 * scale, width))
    return box, x1 - x0, y1 - y0


def descriptor(width: int, height: int, encoding: str = "jpeg", tile: int = TILE, overlap: int = OVERLAP) -> str:
    """The .dzi file."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{encoding}" Overlap="{overlap}"'
        f' TileSize="{tile}"><Size Width="{width}" Height="{height}"/></Image>\n'
    )


# -- IIIF ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What an IIIF image address asks for: `box` of the picture's pixels at (width, height), mirrored, then turned
    clockwise by `turns` quarters. `canonical`: the address in its canonical form."""

    box: Box
    width: int
    height: int
    mirrored: bool
    turns: int
    quality: Quality
    format: str
    canonical: str


def asked(width: int, height: int, region: str, size: str, rotation: str, quality: str, format: str) -> Asked:
    """Read the parts of an image address of a picture of `width` x `height` (IIIF Image API 3.0, section 4).

    Raises `BadAddress` (400) or `NotOffered` (501)."""
    box = region_of(width, height, region)
    across, down = size_of(box.width, box.height, size)
    mirrored, turns = rotation_of(rotation)
    if quality not in QUALITIES:
        raise BadAddress(f"quality: must be one of {', '.join(QUALITIES)}")
    if format not in KNOWN_FORMATS:
        raise BadAddress(f"format: must be one of {', '.join(FORMATS)}")
    if format not in FORMATS:
        raise NotOffered(f"format: {format} is not offered, but {', '.join(FORMATS)} are")
    whole = box == Box(0, height, 0, width)
    where = "full" if whole else f"{box.x0},{box.y0},{box.width},{box.height}"
    large = "max" if (across, down) == largest(box.width, box.height) else f"{across},{down}"
    found: Quality = next(each for each in QUALITIES if each == quality)
    shown = "default" if found == "color" else found
    turned = f"{'!' if mirrored else ''}{90 * turns}"
    return Asked(box, across, down, mirrored, turns, found, format, f"{where}/{large}/{turned}/{shown}.{format}")


def region_of(width: int, height: int, text: str) -> Box:
    """The box of pixels that a region asks for, cropped to the picture (section 4.1)."""
    if text == "full":
        return Box(0, height, 0, width)
    if text == "square":
        side = min(width, height)
        top, left = (height - side) // 2, (width - side) // 2
        return Box(top, top + side, left, left + side)
    if text.startswith("pct:"):
        x, y, across, down = (Fraction(number) / 100 for number in _numbers(text[4:], _NUMBER, "region"))
        if not (across and down):
            raise BadAddress("region: width and height must be more than 0")
        left, top = math.floor(x * width), math.floor(y * height)
        right, bottom = math.ceil((x + across) * width), math.ceil((y + down) * height)
    else:
        left, top, right, bottom = (int(number) for number in _numbers(text, _DIGITS, "region"))
        right, bottom = right + left, bottom + top
    box = Box(top, min(bottom, height), left, min(right, width))
    if left >= right or top >= bottom or left >= width or top >= height:
        raise BadAddress(f"region: nothing of it lies in the picture of {width}x{height}")
    return box


def size_of(width: int, height: int, text: str) -> tuple[int, int]:
    """The (width, height) that a size asks for of a region of `width` x `height` (section 4.2)."""
    larger, plain = text.startswith("^"), text.removeprefix("^")
    most = largest(width, height)
    if plain == "max":
        if larger and most == (width, height) and not _full(width, height):
            raise NotOffered("size: nothing is enlarged here: leave the ^ out")
        return most
    across, down = _wanted(width, height, plain)
    if across < 1 or down < 1:
        raise BadAddress("size: width and height must be more than 0")
    if across > width or down > height:
        if larger:
            raise NotOffered(f"size: nothing is enlarged here: ask for {width}x{height} at most")
        raise BadAddress(f"size: {across}x{down} is larger than the region of {width}x{height}")
    if max(across, down) > MOST_SIDE or across * down > MOST_AREA:
        raise BadAddress(f"size: {across}x{down} is too large: a side has {MOST_SIDE} pixels at most, all {MOST_AREA}")
    return across, down


def _wanted(width: int, height: int, plain: str) -> tuple[int, int]:
    """The (width, height) that a size without its ^ names, whatever is allowed."""
    if plain.startswith("pct:"):
        (share,) = (Fraction(number) / 100 for number in _numbers(plain[4:], _NUMBER, "size", 1))
        if not share:
            raise BadAddress("size: must be more than 0 percent")
        return max(1, _round(width * share)), max(1, _round(height * share))
    match = re.fullmatch(rf"(!?)({_DIGITS})?,({_DIGITS})?", plain, re.ASCII)
    if match is None or not (match[2] or match[3]) or (match[1] and not (match[2] and match[3])):
        raise BadAddress("size: write max, w, or ,h or w,h or !w,h or pct:n")
    across = int(match[2]) if match[2] else None
    down = int(match[3]) if match[3] else None
    if 0 in (across, down):
        return 0, 0
    if match[1] and across and down:  # the largest of the region's shape that fits
        share = min(Fraction(across, width), Fraction(down, height))
        return max(1, min(across, _round(width * share))), max(1, min(down, _round(height * share)))
    if across is None:
        assert down is not None
        return max(1, _round(Fraction(width * down, height))), down
    return across, max(1, _round(Fraction(height * across, width))) if down is None else down


def largest(width: int, height: int) -> tuple[int, int]:
    """The largest (width, height) that is offered of a region: of its shape, within the limits."""
    if _full(width, height):
        share = min(Fraction(MOST_SIDE, max(width, height)), Fraction(math.isqrt(MOST_AREA * width // height), width))
        return max(1, math.floor(width * share)), max(1, math.floor(height * share))
    return width, height


def _full(width: int, height: int) -> bool:
    """Whether a region reaches a limit."""
    return max(width, height) > MOST_SIDE or width * height > MOST_AREA


def rotation_of(text: str) -> tuple[bool, int]:
    """(mirrored, quarter turns clockwise) of a rotation (section 4.3)."""
    match = re.fullmatch(rf"(!?)({_NUMBER})", text, re.ASCII)
    if match is None or Fraction(match[2]) > 360:
        raise BadAddress("rotation: must be a number from 0 to 360, a ! before it to mirror")
    angle = Fraction(match[2])
    if angle % 90:
        raise NotOffered("rotation: only quarter turns are offered: 0, 90, 180, 270")
    return bool(match[1]), int(angle // 90) % 4


def information(base: str, width: int, height: int) -> dict[str, Any]:
    """info.json of the picture whose addresses begin with `base` (section 5)."""
    scales = [
        1 << power for power in range(levels(width, height)) if power == 0 or (TILE << power >> 1) < max(width, height)
    ]
    sizes = [(-(-width // scale), -(-height // scale)) for scale in reversed(scales)]
    within = [size for size in sizes if not _full(*size)]
    return {
        "@context": CONTEXT,
        "id": base,
        "type": "ImageService3",
        "protocol": PROTOCOL,
        "profile": "level2",
        "width": width,
        "height": height,
        "maxWidth": MOST_SIDE,
        "maxHeight": MOST_SIDE,
        "maxArea": MOST_AREA,
        "sizes": [{"width": across, "height": down} for across, down in within],
        "tiles": [{"width": TILE, "height": TILE, "scaleFactors": scales}],
        "preferredFormats": ["jpg", "webp"],
        "extraFormats": ["webp"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": ["canonicalLinkHeader", "jsonldMediaType", "mirroring", "profileLinkHeader"],
    }


def _numbers(text: str, number: str, what: str, count: int = 4) -> list[str]:
    parts = text.split(",")
    if len(parts) != count or not all(re.fullmatch(number, part, re.ASCII) for part in parts):
        raise BadAddress(f"{what}: {'x,y,w,h or pct:x,y,w,h' if count == 4 else 'pct:n'} takes numbers of 0 or more")
    return parts


def _round(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))
