"""Any region of a canvas at any size, finished or not, as pixels or as a small file."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from raytile.canvas import store
from raytile.errors import CanvasError, InvalidRequest
from raytile.geometry.box import Box
from raytile.serve.pyramid import HELD, NEUTRAL, Pyramid, Sight

if TYPE_CHECKING:
    from PIL.Image import Image

    from raytile.serve.pyramid import Pixels

Encoding = Literal["jpeg", "png", "webp"]
STRIP = 256
"""Rows of the answer that are worked out at a time."""
GLANCE = 0.25
"""Seconds for which a head is taken to stand as it was read."""


class Picture:
    """The picture of the canvas at `place`, as far as it came. Thread-safe. Raises `CanvasError`.

    `clock` gives seconds that only go forward; about `held` bytes are kept for the next look."""

    def __init__(self, place: Path | str, clock: Callable[[], float] = time.monotonic, held: int = HELD) -> None:
        self._canvas, self._clock = store.open(place), clock
        self._pyramid = Pyramid(self._canvas, clock, held)
        self._sight: Sight | None = None
        self._seen = 0.0
        self._lock = threading.Lock()
        self._created = self.look().head.created

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._canvas.layout.width, self._canvas.layout.height

    def look(self) -> Sight:
        """What is known of the canvas now."""
        with self._lock:
            now = self._clock()
            if self._sight is None or now - self._seen > GLANCE:
                self._sight, self._seen = Sight.of(self._canvas.head()), now
            return self._sight

    def replaced(self) -> bool:
        """Whether another canvas stands there now, or none."""
        try:
            return self.look().head.created != self._created
        except CanvasError:
            return not store.exists(self._canvas.path)

    def region(self, box: Box, width: int, height: int, sight: Sight | None = None) -> Pixels:
        """Pixels (height, width, 3) of a box of the picture's pixels. Holds a strip of the source at a time."""
        whole = Box(0, self.size[1], 0, self.size[0])
        if not box.area or box.intersect(whole) != box or min(width, height) < 1:
            raise InvalidRequest(f"region: {box} at {width}x{height} is not in the picture of {self.size}")
        sight = sight or self.look()
        for reduction in self._pyramid.reductions:
            exact = self._exact(box, width, height, reduction)
            if exact is not None:
                return self._pyramid.read(sight, reduction, exact)
        down, across = box.height / height, box.width / width
        reduction = self._reduction(min(down, across))
        found = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            part = (box.y0 + top * down) / reduction, (box.y0 + bottom * down) / reduction
            edges = box.x0 / reduction, box.x1 / reduction
            found[top:bottom] = self._resampled(sight, reduction, part, edges, width, bottom - top)
        return found

    def final(self, box: Box, sight: Sight) -> str | None:
        """A tag of what a box of pixels shows for good; None while that still changes."""
        layout = self._canvas.layout
        grid, side = sight.done.reshape(layout.tile_rows, layout.tile_columns), layout.tile
        if not grid[box.y0 // side : -(-box.y1 // side), box.x0 // side : -(-box.x1 // side)].all():
            return None
        head = sight.head
        return hashlib.sha256(f"{head.plan_hash}|{head.created!r}|{head.device_digest}|{box}".encode()).hexdigest()

    def _reduction(self, ratio: float) -> int:
        """The largest of the pyramid's that is not too coarse."""
        fitting = [reduction for reduction in self._pyramid.reductions if reduction <= ratio * (1 + 1e-9)]
        return max(fitting, default=1)

    def _exact(self, box: Box, width: int, height: int, reduction: int) -> Box | None:
        """The box at this reduction, if it is the answer as it stands."""
        if box.y0 % reduction or box.x0 % reduction:
            return None
        found = Box(box.y0 // reduction, ceil(box.y1 / reduction), box.x0 // reduction, ceil(box.x1 / reduction))
        at_end = [end % reduction == 0 or end == last for end, last in ((box.x1, self.size[0]), (box.y1, self.size[1]))]
        return found if (found.height, found.width) == (height, width) and all(at_end) else None

    def _resampled(
        self, sight: Sight, reduction: int, ys: tuple[float, float], xs: tuple[float, float], width: int, height: int
    ) -> Pixels:
        """From what lies between these edges, in pixels of `reduction`, and a little around it."""
        from PIL import Image

        rows, columns = self._pyramid.size(reduction)
        rims = ceil(3 * (ys[1] - ys[0]) / height) + 1, ceil(3 * (xs[1] - xs[0]) / width) + 1
        ys, xs = (min(ys[0], rows - 1), min(ys[1], rows)), (min(xs[0], columns - 1), min(xs[1], columns))
        seen = Box(floor(ys[0]) - rims[0], ceil(ys[1]) + rims[0], floor(xs[0]) - rims[1], ceil(xs[1]) + rims[1])
        seen = seen.intersect(Box(0, rows, 0, columns))
        source = Image.fromarray(self._pyramid.read(sight, reduction, seen))
        part = xs[0] - seen.x0, ys[0] - seen.y0, xs[1] - seen.x0, ys[1] - seen.y0
        return np.asarray(source.resize((width, height), Image.Resampling.LANCZOS, box=part))


def blank(width: int, height: int) -> Pixels:
    """What is shown of a picture that has not been begun."""
    return np.full((height, width, 3), NEUTRAL, np.uint8)


def encoded(pixels: Pixels, encoding: Encoding, quality: int = 88) -> bytes:
    """Pixels (h, w, 3), or (h, w) of grey, as a file."""
    from PIL import Image

    options: dict[Encoding, dict[str, object]] = {
        "jpeg": {"quality": quality},
        "webp": {"quality": quality, "method": 2},
        "png": {"compress_level": 3},
    }
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, encoding, **options[encoding])
    return file.getvalue()


def fitting(size: tuple[int, int], most: int) -> tuple[int, int]:
    """A size (width, height) made smaller until no side is longer than `most`."""
    longer = max(*size, most)
    width, height = (max(1, round(side * most / longer)) for side in size)
    return width, height


def picture(place: Path | str, max_side: int) -> Image:
    """The whole canvas as it stands, no side longer than `max_side` pixels."""
    from PIL import Image

    found = Picture(place)
    width, height = found.size
    return Image.fromarray(found.region(Box(0, height, 0, width), *fitting(found.size, max_side)))
