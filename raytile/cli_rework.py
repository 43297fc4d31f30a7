"""The commands that begin with a picture that is there: upscale, repaint and extend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raytile.cli_options import CanvasOptions, CanvasPlace, TellOptions, WorkerOptions, option
from raytile.cli_paint import paint
from raytile.cli_picture import PICTURE, PictureOptions
from raytile.errors import InvalidRequest
from raytile.scenes import layer

Words = Annotated[
    str | None, option(PICTURE, "--prompt", "What to paint.", show_default="the canvas's own", metavar="PROMPT")
]
LargerSize = Annotated[
    str,
    option(PICTURE, "--size", "Width x height in pixels; for a cube one number, a face's side.", metavar="WxH"),
]
Original = Annotated[
    str, typer.Argument(metavar="CANVAS|IMAGE", help="A finished canvas, or an image file.", show_default=False)
]
WHERE = "Where to paint anew"
Boxes = Annotated[
    list[str] | None,
    option(WHERE, "--box", "A rectangle in pixels. May be given again.", metavar="X,Y,WIDTH,HEIGHT"),
]
Polygons = Annotated[
    list[str] | None,
    option(WHERE, "--polygon", "Its corners in pixels. May be given again.", metavar='"X,Y X,Y X,Y"'),
]
Masks = Annotated[
    list[Path] | None,
    option(WHERE, "--mask", "A picture that is white there; scaled to the canvas. May be given again.", metavar="FILE"),
]
Feather = Annotated[
    float, option(WHERE, "--feather", "Over how many pixels new goes over into old.", metavar="PIXELS", min=0)
]


def _grown(side: str) -> object:
    return option(WHERE, f"--{side}", "Pixels to add there.", metavar="PIXELS", min=0)


Left = Annotated[int, _grown("left")]
Right = Annotated[int, _grown("right")]
Top = Annotated[int, _grown("top")]
Bottom = Annotated[int, _grown("bottom")]


def upscale(
    *,
    original: Original,
    size: LargerSize,
    prompt: Words = None,
    picture: PictureOptions,
    workers: WorkerOptions,
    keep: CanvasOptions,
    tell: TellOptions,
) -> None:
    """Paint a finished canvas, or an image, larger and finer: draft small, approve, finish large.

    A canvas brings its prompt, regions, model, seed and joined sides; options win. Colours are kept, unless
    --no-match-colour. Files of masks and of --control are read again: they must still be there."""
    from raytile.reworks import upscaled

    request = upscaled(original, layer(picture.values(prompt=prompt, size=size)))
    paint(request, keep.out or _beside(original, f"{request.width}x{request.height}"), workers, keep, tell)


def repaint(
    *,
    canvas: CanvasPlace,
    prompt: Words = None,
    box: Boxes = None,
    polygon: Polygons = None,
    mask: Masks = None,
    feather: Feather = 32.0,
    picture: PictureOptions,
    workers: WorkerOptions,
    keep: CanvasOptions,
    tell: TellOptions,
) -> None:
    """Paint a part of a finished canvas anew, onto a new canvas; the old one stays as it is.

    Outside the part not a bit changes, and only the tiles that it touches are painted."""
    from raytile.reworks import repainted

    shapes: list[dict[str, object]] = [{"box": _numbers("box", text, 4)} for text in box or ()]
    shapes += [{"polygon": [_numbers("polygon", corner, 2) for corner in text.split()]} for text in polygon or ()]
    shapes += [{"mask": {"path": str(file)}} for file in mask or ()]
    request = repainted(
        canvas, layer(picture.values(prompt=prompt)), [{**shape, "feather": feather} for shape in shapes]
    )
    paint(request, keep.out or _beside(canvas, "repainted"), workers, keep, tell)


def extend(
    *,
    canvas: CanvasPlace,
    left: Left = 0,
    right: Right = 0,
    top: Top = 0,
    bottom: Bottom = 0,
    prompt: Words = None,
    picture: PictureOptions,
    workers: WorkerOptions,
    keep: CanvasOptions,
    tell: TellOptions,
) -> None:
    """Continue a finished canvas beyond its sides, onto a new canvas; what was there stays as it is."""
    from raytile.reworks import extended

    request = extended(canvas, layer(picture.values(prompt=prompt)), left, right, top, bottom)
    paint(request, keep.out or _beside(canvas, "extended"), workers, keep, tell)


def _beside(original: str, what: str) -> str:
    """A canvas in this directory, named after the picture that it is made of."""
    return f"{Path(original.rstrip('/')).stem}-{what}.zarr"


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        wanted = "x,y,width,height" if count == 4 else "corners as x,y x,y x,y"
        raise InvalidRequest(f"{name}: write {wanted} in pixels (got {text!r})")
    return found
