"""Pictures that are taken in: opened by what their bytes say, coloured, scaled and cut in chunks as they are decoded.

Orientation: EXIF 2.32 (CIPA DC-008), tag 274."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from raytile.canvas.layout import SUFFIX
from raytile.canvas.place import is_remote
from raytile.canvas.vips import libvips
from raytile.errors import CanvasError, InvalidRequest
from raytile.geometry.box import Box

if TYPE_CHECKING:
    from raytile.canvas.arrays import Numbers

    Write = Callable[[Box, Numbers], None]

LOADERS = {
    b"\x89PNG\r\n\x1a\n": "pngload",
    b"\xff\xd8\xff": "jpegload",
    b"II*\0": "tiffload",
    b"MM\0*": "tiffload",
    b"II+\0": "tiffload",
    b"MM\0+": "tiffload",
}
KERNELS = {3: ("lanczos3", "bicubic"), 1: ("linear", "bilinear")}  # to make smaller and larger, by bands
AT_ONCE = 4  # squares that are handed over at once: a strip's copies would be as wide as the picture
WHOLE = 2**26  # pixels of a picture whose file can only be decoded whole: 200 MB


class Turn(NamedTuple):
    """How stored pixels are shown: first transposed, then turned over in y, then in x."""

    transposed: bool
    flip_y: bool
    flip_x: bool


UPRIGHT = Turn(False, False, False)
TURNS = {
    2: Turn(False, False, True),
    3: Turn(False, True, True),
    4: Turn(False, True, False),
    5: Turn(True, False, False),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(True, True, False),
}


def shown_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file, upright; reads its header only. Raises `InvalidRequest`."""
    with _refused(path):
        image = _load(path)
        turn = TURNS.get(_orientation(image), UPRIGHT)
        return (image.height, image.width) if turn.transposed else (image.width, image.height)


def pour(path: str, bands: int, width: int, height: int, side: int, write: Write) -> None:
    """Scale the picture at `path`, file or canvas, to width x height and hand it over in whole squares, a few at once.

    `write` gets a box and its values, uint8 (bands, h, w), good until it returns: 3 bands are sRGB, 1 is grey; what is
    transparent turns black. Squares have `side` pixels a side and come in strips, rows or columns, of each picture in
    an order of its own. Holds one strip in memory. Grey is scaled without overshoot: black stays black beyond an edge.
    Raises `InvalidRequest` for what is wrong with the picture."""
    if is_remote(path) or Path(path).name.endswith(SUFFIX):
        from raytile.canvas import store
        from raytile.canvas.tape import streamed

        with streamed(store.open(path), f"read {path}") as image:
            _pour(_coloured(image, bands), UPRIGHT, bands, width, height, side, write)
    else:
        with _refused(path):
            image = _load(path)
            turn = TURNS.get(_orientation(image), UPRIGHT)
            _pour(_coloured(image, bands), turn, bands, width, height, side, write)


@contextmanager
def _refused(path: str | Path) -> Iterator[None]:
    """Say in one line what libvips does not like about a file."""
    pyvips = libvips()

    log = logging.getLogger("pyvips")
    if not log.handlers:  # else its warnings come to stderr beside our one line
        log.addHandler(logging.NullHandler())
    try:
        yield
    except pyvips.Error as error:
        cause = " ".join(str(error).split())
        raise InvalidRequest(f"cannot read {path}: {cause}: is it whole? save it anew as PNG or JPEG") from None


def _load(path: str | Path) -> Any:
    """The image in a file, decoded as it is read, by the decoder for its first bytes and no other."""
    pyvips = libvips()

    try:
        with Path(path).open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # no path has a NUL
        raise InvalidRequest(f"cannot read {path}: {getattr(error, 'strerror', error)}") from None
    loader = next((name for magic, name in LOADERS.items() if start.startswith(magic)), None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        loader = "webpload"
    if loader is None:
        raise InvalidRequest(f"{path} is no PNG, JPEG, TIFF or WebP picture: save it as one of these")
    image = getattr(pyvips.Image, loader)(str(path), access="sequential", fail_on="error", revalidate=True)
    whole = loader == "webpload" or (loader != "tiffload" and image.get_typeof("interlaced"))
    if whole and image.width * image.height > WHOLE:
        raise InvalidRequest(f"{path} is too large for an interlaced or WebP file: save it as plain PNG, JPEG or TIFF")
    if image.format not in ("uchar", "ushort") or image.bands > 5:
        raise InvalidRequest(f"{path} has {image.bands} bands of {image.format}: save it with 8 or 16 bits a colour")
    return image


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def _coloured(image: Any, bands: int) -> Any:
    """In sRGB or grey, 8 bits, flattened on black. Greys are values, not colours: no profile moves them."""
    if bands == 3 and image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True)
    image = image.colourspace("srgb" if bands == 3 or image.bands > 2 else "b-w")
    if image.hasalpha():
        image = image.flatten(background=0)
    if bands == 1 and image.bands > 1:
        image = image.colourspace("b-w")
    return image.cast("uchar")


def _scaled(image: Any, width: int, height: int, smaller: str, larger: str) -> Any:
    """The image at this size, its outer edges where they were.

    libvips' own enlarging keeps the centre of the first pixel instead, and so moves a picture by up to half a pixel."""
    pyvips = libvips()

    x, y = min(1.0, width / image.width), min(1.0, height / image.height)
    if min(x, y) < 1:
        image = image.resize(x, vscale=y, kernel=smaller)
    x, y = width / image.width, height / image.height
    if max(x, y) > 1:
        by, area = pyvips.Interpolate.new(larger), [0, 0, width, height]
        shift = {"odx": (x - 1) / 2, "ody": (y - 1) / 2}
        image = image.affine([x, 0, 0, y], interpolate=by, oarea=area, extend="copy", **shift)
    return image


def _pour(image: Any, turn: Turn, bands: int, width: int, height: int, side: int, write: Write) -> None:
    import numpy as np

    pyvips = libvips()

    across, down = (height, width) if turn.transposed else (width, height)  # as it is stored
    image = _scaled(image, across, down, *KERNELS[bands])
    found = (image.width, image.height, image.bands)
    if found != (across, down, bands):
        raise CanvasError(f"a picture was scaled to {found} and not to {(across, down, bands)}")
    backwards = turn.flip_x if turn.transposed else turn.flip_y
    edges = [(start, min(start + side, down)) for start in range(0, down, side)]
    strips = iter(edges[::-1] if backwards else edges)
    start, stop = next(strips)
    held, filled = bytearray((stop - start) * across * bands), 0
    trouble: list[Exception] = []

    def take(data: bytes) -> int:
        nonlocal start, stop, held, filled
        rest = memoryview(data)
        try:
            while rest and held:
                part = rest[: len(held) - filled]
                held[filled : filled + len(part)] = part
                rest, filled = rest[len(part) :], filled + len(part)
                if filled < len(held):
                    break
                values = np.frombuffer(held, np.uint8).reshape(stop - start, across, bands)
                values = values.transpose(2, 1, 0) if turn.transposed else values.transpose(2, 0, 1)
                values = values[:, :: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]
                for at in range(0, across, AT_ONCE * side):
                    end = min(at + AT_ONCE * side, across)
                    box = Box(at, end, start, stop) if turn.transposed else Box(start, stop, at, end)
                    few = values[:, at:end] if turn.transposed else values[:, :, at:end]
                    write(box, np.ascontiguousarray(few))
                start, stop = next(strips, (0, 0))
                size, filled = (stop - start) * across * bands, 0
                del values, few  # they look at what is held, which is not to stand twice
                if len(held) != size:
                    held = bytearray(size)
        except Exception as error:  # libvips takes no exceptions: stop here, and raise it below
            trouble.append(error)
            return 0
        return len(data)

    target = pyvips.TargetCustom()
    target.on_write(take)
    try:
        image.rawsave_target(target)
    except pyvips.Error:
        if not trouble:
            raise
    if trouble:
        raise trouble[0]
    if held:
        raise CanvasError("a picture ended before its last row")
