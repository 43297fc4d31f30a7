"""What a canvas takes in when it is made: pictures to start from, masks, control. Described here, copied by `fill`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raytile.canvas.layout import LATENTS, RGB, SUFFIX, ArraySpec, CanvasLayout
from raytile.canvas.place import is_remote, where
from raytile.errors import CanvasError, InvalidRequest
from raytile.geometry.box import Box
from raytile.plan.request import MAX_SIDE, RenderRequest
from raytile.plan.scene import Picture

if TYPE_CHECKING:
    from raytile.canvas.arrays import Numbers

SOURCE_IMAGE, SOURCE_LATENTS, MASK, CONTROL = "source_image", "source_latents", "mask_{}", "control"
NAMES = re.compile(rf"{SOURCE_IMAGE}|{SOURCE_LATENTS}|mask_\d+|{CONTROL}")
READ_BYTES = 2**20
LOOK = 512
"""Pixels a side of the squares in which a mask is looked at."""


@dataclass(frozen=True)
class Input:
    """A picture that can be taken in: its size as it is shown, and what is in it.

    `sha256`: of a file's bytes; of a canvas the SHA-256 over its digests of latents and pixels."""

    kind: Literal["file", "canvas"]
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Taken:
    """A picture (file or finished canvas) that is scaled to width x height as it is taken in.

    `sha256`: what it must hold, as `identify` told; empty: whatever it holds."""

    path: str
    width: int
    height: int
    sha256: str = ""


@dataclass(frozen=True)
class Parent:
    """A finished canvas of the same model that is painted on: its top left pixel lies at `place` (x, y) of the new one.

    `touched` are the tiles of the new canvas that are painted; all others are copied and must lie within the parent
    (see `holds`)."""

    path: str
    place: tuple[int, int]
    touched: frozenset[int]
    sha256: str = ""


@dataclass(frozen=True)
class Inputs:
    """All that a canvas takes in. Arrays: `source_image` from `source` or `parent` (of the touched tiles only),
    `source_latents` from `parent`, `mask_0`, ... (see `masks_of`), `control`; masks and control in shades of grey, of
    the size of the picture."""

    source: Taken | None = None
    parent: Parent | None = None
    masks: tuple[Taken, ...] = ()
    control: Taken | None = None

    def __post_init__(self) -> None:
        if self.source is not None and self.parent is not None:
            raise InvalidRequest("source: a canvas is painted on, or a picture is taken as source, not both: leave one")

    def pictures(self) -> Iterator[tuple[str, Taken]]:
        """Each picture that is scaled, with the name of its array."""
        if self.source is not None:
            yield SOURCE_IMAGE, self.source
        for number, mask in enumerate(self.masks):
            yield MASK.format(number), mask
        if self.control is not None:
            yield CONTROL, self.control

    def origins(self) -> Iterator[tuple[str, str]]:
        """Path and sha256 of everything that is taken in."""
        if self.parent is not None:
            yield self.parent.path, self.parent.sha256
        for _, picture in self.pictures():
            yield picture.path, picture.sha256

    def arrays(self, layout: CanvasLayout) -> tuple[ArraySpec, ...]:
        """The arrays that stand beside those of the layout."""

        def image(name: str, channels: int, width: int, height: int) -> ArraySpec:
            return ArraySpec(name, (channels, height, width), (channels, layout.tile, layout.tile), "uint8")

        found = []
        if self.parent is not None:
            found.append(image(SOURCE_IMAGE, RGB, layout.width, layout.height))
            found.append(ArraySpec(SOURCE_LATENTS, layout.latents_shape, layout.latents_chunks, "float32"))
        for name, picture in self.pictures():
            if name != SOURCE_IMAGE and (picture.width, picture.height) != (layout.width, layout.height):
                raise InvalidRequest(
                    f"{name} of {picture.path} must be scaled to the {layout.width}x{layout.height} pixels"
                )
            found.append(image(name, RGB if name == SOURCE_IMAGE else 1, picture.width, picture.height))
        return tuple(found)


def masks_of(request: RenderRequest) -> tuple[Picture, ...]:
    """The mask images of a request in the order of `mask_0`, `mask_1`, ...: those of regions, then of repaint."""
    return tuple(shape.mask for shape in (*request.regions, *request.repaint) if shape.mask is not None)


def holds(layout: CanvasLayout, parent: CanvasLayout, place: tuple[int, int], tile: int) -> bool:
    """Whether a tile lies wholly within a parent at `place` (x, y), in pixels and in cells: what can be copied."""
    x, y = place
    pixels, cells = (
        layout.pixels(tile).shift(-y, -x),
        layout.cells(tile).shift(-(y // layout.factor), -(x // layout.factor)),
    )
    whole, grid = Box(0, parent.height, 0, parent.width), Box(0, parent.rows, 0, parent.columns)
    return pixels.intersect(whole).area == pixels.area and cells.intersect(grid).area == cells.area


def identify(path: str | Path) -> Input:
    """What lies at `path`, an image file (PNG, JPEG, TIFF, WebP) or a finished canvas (also s3://BUCKET/NAME.zarr).

    Decodes no pixel, and reads a file once, in pieces. Raises `InvalidRequest`, one line that names the fix."""
    if is_remote(path) or Path(path).name.endswith(SUFFIX):
        return _canvas(path)
    from raytile.canvas.picture import shown_size

    width, height = shown_size(path)
    if max(width, height) > MAX_SIDE:
        raise InvalidRequest(f"{path}: {width}x{height} pixels are too many, at most {MAX_SIDE} a side: scale it down")
    whole = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while data := file.read(READ_BYTES):
                whole.update(data)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None
    return Input("file", width, height, whole.hexdigest())


def _canvas(path: str | Path) -> Input:
    from raytile.canvas import store
    from raytile.canvas.digest import combine

    try:
        canvas = store.open(path)
        head = canvas.head()
        if head.state != "finished" or head.done < head.tiles_total:
            raise InvalidRequest(f"{path} is {head.state}: only a finished canvas can be taken in, try raytile resume")
        summary = head.summary or {}
        if not {f"{LATENTS}_sha256", "pixels_sha256"} <= {*summary}:
            latents, pixels = canvas.digests()
        else:
            latents, pixels = summary["latents_sha256"], summary["pixels_sha256"]
        return Input("canvas", canvas.layout.width, canvas.layout.height, combine([latents, pixels]))
    except CanvasError as error:
        raise InvalidRequest(str(error)) from None


def lit(path: str, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Where the picture at `path`, scaled to width x height as a mask is, is not black: the box (x, y, width, height)
    around that; None if it is black all over. Raises `InvalidRequest` for what is wrong with the picture."""
    from raytile.canvas.picture import pour

    found: list[Box] = []

    def look(box: Box, values: Numbers) -> None:
        rows, columns = values[0].any(axis=1).nonzero()[0], values[0].any(axis=0).nonzero()[0]
        if len(rows):
            seen = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1).shift(box.y0, box.x0)
            found[:] = [found[0].around(seen) if found else seen]

    pour(path, 1, width, height, LOOK, look)
    return (found[0].x0, found[0].y0, found[0].width, found[0].height) if found else None


def verify(inputs: Inputs, target: str, layout: CanvasLayout) -> None:
    """Raise `InvalidRequest` unless everything is there and as it was looked at, none of it lies at `target`, and the
    parent fits a canvas of this layout."""
    inputs.arrays(layout)
    for path, sha256 in dict.fromkeys(inputs.origins()):
        if _same(where(path), target):
            raise InvalidRequest(f"{path} cannot be both source and result: choose another name for the result")
        found = identify(path).sha256
        if sha256 not in ("", found):
            raise InvalidRequest(f"{path} has changed since it was looked at: start again")
    if inputs.parent is not None:
        from raytile.canvas import store

        check_parent(layout, store.open(inputs.parent.path).layout, inputs.parent)


def _same(one: str, other: str) -> bool:
    """Whether two places are one, by whatever links."""
    return one == other or (
        not is_remote(one) and not is_remote(other) and os.path.realpath(one) == os.path.realpath(other)
    )


def check_parent(layout: CanvasLayout, parent: CanvasLayout, wish: Parent) -> None:
    """Raise `InvalidRequest` unless a canvas of `parent` can be painted on as `wish` says."""
    x, y = wish.place
    if (layout.channels, layout.factor) != (parent.channels, parent.factor):
        raise InvalidRequest("source: the canvas was painted by another kind of model: name the model that painted it")
    if x % layout.factor or y % layout.factor:
        raise InvalidRequest(f"place: must be multiples of {layout.factor} pixels (got {x},{y})")
    if x < 0 or y < 0 or x + parent.width > layout.width or y + parent.height > layout.height:
        raise InvalidRequest(
            f"place: {parent.width}x{parent.height} pixels at {x},{y} reach beyond {layout.width}x{layout.height}:"
            " choose a larger size or another place"
        )
    for tile in range(layout.tiles):
        if tile not in wish.touched and not holds(layout, parent, wish.place, tile):
            raise InvalidRequest(f"place: tile {tile} reaches beyond {wish.path} and has to be painted")
