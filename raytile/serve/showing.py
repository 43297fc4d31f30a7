"""Canvases that are looked at, and the answers to those who look: tiles, regions, descriptors, each with its tag."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from raytile.canvas import store
from raytile.geometry.box import Box
from raytile.serve import zoom
from raytile.serve.errors import BadRequest, Busy, NotFound, NotOffered
from raytile.serve.tiles import Encoding, Picture, blank, encoded

if TYPE_CHECKING:
    from raytile.serve.pyramid import Pixels

ENCODINGS: dict[str, Encoding] = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png", "webp": "webp"}
KEPT, HELD = 8, 2**28
"""Canvases whose squares are kept at once, and bytes of squares that all of them keep together."""
WATCHERS, TILERS = anyio.CapacityLimiter(2), anyio.CapacityLimiter(8)
"""Regions, which may be large, and tiles that are worked out at once."""
WAITING = 256
"""Tiles, or regions, that may wait for that."""
_LEVEL = re.compile(r"[0-9]{1,3}", re.ASCII)
_TILE = re.compile(r"([0-9]{1,9})_([0-9]{1,9})\.([a-z]{3,4})", re.ASCII)


@dataclass(frozen=True)
class Shown:
    """A picture that may be looked at: the place of its canvas (None: not begun) and its size in pixels. `cache`: the
    Cache-Control of its parts."""

    place: str | None
    width: int
    height: int
    cache: str


class Gallery:
    """The pictures that were looked at last. `clock` gives seconds that only go forward. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def picture(self, shown: Shown) -> Picture | None:
        """The picture of a canvas; None while there is none."""
        place = shown.place
        if place is None:
            return None
        with self._lock:
            found = self._open.get(place)
        if found is None or found.replaced():
            if not store.exists(place):
                return None
            found = Picture(place, self._clock, HELD // KEPT)
            if found.size != (shown.width, shown.height):
                raise NotFound("this picture was replaced by one of another size: open it anew")
        with self._lock:
            self._open[place] = found
            self._open.move_to_end(place)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
        return found


@dataclass(frozen=True)
class Wanted:
    """Part of a picture at a size, and what becomes of its pixels before they are sent."""

    box: Box
    width: int
    height: int
    encoding: Encoding
    name: str
    """All that the above leaves open, for the tag."""
    changed: Callable[[Pixels], Pixels] = lambda pixels: pixels

    @property
    def key(self) -> str:
        return f"{self.box} {self.width}x{self.height} {self.encoding} {self.name}"


async def working(act: Callable[[], Response], limiter: anyio.CapacityLimiter) -> Response:
    """Run what works out an answer, apart from what else is asked. Raises `Busy` where too many wait."""
    if limiter.statistics().tasks_waiting >= WAITING:
        raise Busy("too many parts of pictures are asked for: come again soon", retry_after=2)
    return await anyio.to_thread.run_sync(act, limiter=limiter)


def descriptor_answer(shown: Shown) -> Response:
    """The .dzi file of a picture."""
    text = zoom.descriptor(shown.width, shown.height)
    return Response(text, media_type="application/xml", headers={"Cache-Control": shown.cache})


def tile_answer(request: Request, gallery: Gallery, shown: Shown, level: str, tile: str) -> Response:
    """A DeepZoom tile, by the last parts of its address. Raises `NotFound` for one that there is not."""
    match = _TILE.fullmatch(tile)
    if match is None or not _LEVEL.fullmatch(level) or match[3] not in ENCODINGS:
        raise NotFound("tiles are LEVEL/COLUMN_ROW.jpeg (or .jpg, .png, .webp)")
    try:
        found = zoom.tile_box(shown.width, shown.height, int(level), int(match[1]), int(match[2]))
    except zoom.BadAddress as error:
        raise NotFound(str(error)) from None
    return _answer(request, gallery, shown, Wanted(*found, ENCODINGS[match[3]], "tile"), {})


def information_answer(request: Request, shown: Shown, base: str) -> Response:
    """The info.json of a picture whose IIIF addresses begin with `base`."""
    accepted = request.headers.get("accept", "")
    plain = "application/json" in accepted and "application/ld+json" not in accepted
    kind = "application/json" if plain else f'application/ld+json;profile="{zoom.CONTEXT}"'
    headers = {"Cache-Control": shown.cache, "Vary": "Accept", "Link": f'<{zoom.PROFILE}>;rel="profile"'}
    return JSONResponse(zoom.information(base, shown.width, shown.height), headers=headers, media_type=kind)


def image_answer(
    request: Request, gallery: Gallery, shown: Shown, base: str, parts: tuple[str, str, str, str, str]
) -> Response:
    """An IIIF image: `parts` are region, size, rotation, quality and format. Raises `BadRequest` or `NotOffered`."""
    try:
        asked = zoom.asked(shown.width, shown.height, *parts)
    except zoom.BadAddress as error:
        raise BadRequest(str(error), str(error).partition(":")[0]) from None
    except zoom.NotOffered as error:
        raise NotOffered(str(error), str(error).partition(":")[0]) from None

    def changed(pixels: Pixels) -> Pixels:
        from PIL import Image

        if asked.quality in ("gray", "bitonal"):
            image = Image.fromarray(pixels).convert("L")
            pixels = np.asarray(image.convert("1").convert("L") if asked.quality == "bitonal" else image)
        pixels = np.rot90(pixels[:, ::-1] if asked.mirrored else pixels, -asked.turns)
        return np.ascontiguousarray(pixels)

    encoding = ENCODINGS[asked.format]
    wanted = Wanted(asked.box, asked.width, asked.height, encoding, f"iiif {asked.canonical}", changed)
    links = f'<{base}/{asked.canonical}>;rel="canonical", <{zoom.PROFILE}>;rel="profile"'
    return _answer(request, gallery, shown, wanted, {"Link": links})


def _answer(request: Request, gallery: Gallery, shown: Shown, wanted: Wanted, headers: dict[str, str]) -> Response:
    """The part, or 304 where the client has it. What cannot change any more need not be looked at for that; what can,
    though its render has just ended, is for nobody to keep."""
    headers = {**headers, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    picture = gallery.picture(shown)
    if picture is None:
        data = encoded(wanted.changed(blank(wanted.width, wanted.height)), wanted.encoding)
        tag = _tag(data)
    else:
        sight = picture.look()
        final = picture.final(wanted.box, sight)
        tag = "" if final is None else _tag(f"{final} {wanted.key}".encode())
        if tag:
            headers["Cache-Control"] = shown.cache
        if tag and _listed(known, tag):
            return Response(status_code=304, headers={**headers, "ETag": tag})
        pixels = picture.region(wanted.box, wanted.width, wanted.height, sight)
        data = encoded(wanted.changed(pixels), wanted.encoding)
        tag = tag or _tag(data)
    headers["ETag"] = tag
    if _listed(known, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=f"image/{wanted.encoding}", headers=headers)


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _listed(header: str, tag: str) -> bool:
    """Whether If-None-Match names this tag (RFC 9110, section 13.1.2)."""
    return header.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in header.split(","))
