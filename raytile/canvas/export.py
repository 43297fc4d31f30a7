"""A canvas as one picture file: streamed, a row of tiles at a time, whatever its size."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytile.canvas import gpano
from raytile.canvas.canvas import Canvas
from raytile.canvas.disk import check_name, explained, sync
from raytile.canvas.layout import SUFFIX, CanvasLayout
from raytile.canvas.place import name
from raytile.canvas.tape import streamed
from raytile.canvas.vips import libvips
from raytile.errors import CanvasError
from raytile.geometry.box import Box

JPEG_SIDE, WEBP_SIDE = 65_535, 16_383
TEMPORARY = len("..4194304.new")  # what a picture's name gains while it is written: the pid, at most
# libvips' savers that write as they read. PNG filtered up at level 3: as small as level 6, in less time.
SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("pngsave", {"compression": 3, "filter": "up"}),
    ".jpg": ("jpegsave", {"Q": 92}),
    ".jpeg": ("jpegsave", {"Q": 92}),
    ".tif": ("tiffsave", {"compression": "deflate", "predictor": "horizontal", "tile": True, "bigtiff": True}),
    ".webp": ("webpsave", {"Q": 92}),
}
SAVERS[".tiff"] = SAVERS[".tif"]


def check_output(file: Path | str, layout: CanvasLayout, overwrite: bool = False) -> None:
    """Raise `CanvasError` when a picture of this layout cannot be exported to `file`; writes nothing."""
    _check(Path(file).absolute(), layout.width, layout.height, overwrite)


def _check(place: Path, width: int, height: int, overwrite: bool) -> None:
    if place.suffix.lower() not in SAVERS:
        raise CanvasError(f"cannot export to {place.name}: the name must end in one of {', '.join(SAVERS)}")
    saver = SAVERS[place.suffix.lower()][0]
    for only, kind, most in (("jpegsave", "JPEG", JPEG_SIDE), ("webpsave", "WebP", WEBP_SIDE)):
        if saver == only and max(width, height) > most:
            raise CanvasError(f"{kind} holds at most {most} pixels a side: export to .png or .tif")
    if os.path.lexists(place) and not (overwrite and place.is_file()):
        raise CanvasError(f"{place} exists: choose another name, or replace it with --overwrite")
    if not place.parent.is_dir():
        raise CanvasError(f"cannot export to {place}: there is no directory {place.parent}")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise CanvasError(f"cannot export to {place}: {place.parent} is not writable")
    check_name(place, place.parent, TEMPORARY)


def export_picture(
    canvas: Canvas,
    file: Path | str,
    *,
    overwrite: bool = False,
    partial: bool = False,
    quality: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the picture to `file` (PNG, JPEG, TIFF or WebP by its ending) and return the file's path.

    Holds one row of tiles in memory (WebP: the picture). A map of a whole sphere says so (see `raytile.canvas.gpano`).
    The file appears whole, by a rename, or not at all. An unfinished canvas is refused unless `partial`, which leaves
    black what is not painted yet. `quality`, from 1 to 100, is for JPEG and WebP. `progress` is told how many rows of
    tiles are read, and of how many. Raises `CanvasError`."""
    place = Path(file).absolute()
    check_output(place, canvas.layout, overwrite)
    if not partial:
        _whole(canvas)
    _save(canvas, place, None, progress, quality)
    return place


def export_faces(
    canvas: Canvas,
    folder: Path | str,
    faces: Mapping[str, Box],
    *,
    ending: str = ".png",
    overwrite: bool = False,
    partial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write each face, a box of pixels, to `folder`/NAME-FACE`ending` (NAME: the canvas's) and return the paths.

    Everything is checked before the first is written; `folder` is made if it is not there. The rest is as for
    `export_picture`; `progress` counts the rows of tiles of all faces."""
    at, stem = Path(folder).absolute(), name(canvas.path).removesuffix(SUFFIX)
    layout = canvas.layout
    for face, box in faces.items():
        if not box.area or box.intersect(Box(0, layout.height, 0, layout.width)) != box:
            raise CanvasError(f"face {face}: {box} does not lie in the picture of {layout.width}x{layout.height}")
    places = {face: at / f"{stem}-{face}{ending}" for face in faces}
    with explained(f"make the directory {at}"):
        at.mkdir(exist_ok=True)
    for face, place in places.items():
        _check(place, faces[face].width, faces[face].height, overwrite)
    if not partial:
        _whole(canvas)
    total, before = sum(-(-box.height // layout.tile) for box in faces.values()), 0
    for face, place in places.items():
        told = None
        if progress is not None:
            told = _after(progress, before, total)
        _save(canvas, place, faces[face], told)
        before += -(-faces[face].height // layout.tile)
    return (*places.values(),)


def _after(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    """Progress of one part of several: `before` are done, of `total`."""
    return lambda done, _: progress(before + done, total)


def _whole(canvas: Canvas) -> None:
    """Raise `CanvasError` unless every tile is painted and on disk."""
    head = canvas.head()
    if head.state != "finished" or head.done < head.tiles_total:
        raise CanvasError(
            f"{canvas.path} is {head.state} with {head.done} of {head.tiles_total} tiles painted:"
            " finish it with raytile resume, or export what is there with --partial"
        )
    for tile in range(canvas.layout.tiles):
        if not canvas.stored(tile):
            raise CanvasError(f"{canvas.path} is damaged: it has no image of tile {tile}")


def _save(
    canvas: Canvas,
    place: Path,
    box: Box | None,
    progress: Callable[[int, int], None] | None,
    quality: int | None = None,
) -> None:
    """Write the picture or a box of it, in whole and by a rename."""
    fresh = place.with_name(f".{place.name}.{os.getpid()}.new")
    saver, options = SAVERS[place.suffix.lower()]
    if quality is not None and "Q" in options:
        options = {**options, "Q": quality}
    packet = b""
    if box is None and gpano.is_sphere(canvas.head().request):
        packet = gpano.packet(canvas.layout.width, canvas.layout.height)
    try:
        with explained(f"export to {place}"):
            with streamed(canvas, f"export to {place}", box, progress) as picture:
                if packet and saver == "pngsave":
                    _save_png(picture, fresh, options, gpano.chunk(packet))
                else:
                    getattr(_with_xmp(picture, packet), saver)(str(fresh), **options)
            sync(fresh)
            fresh.replace(place)
            sync(place.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _with_xmp(picture: Any, packet: bytes) -> Any:
    pyvips = libvips()

    if not packet:
        return picture
    copy = picture.copy()
    copy.set_type(pyvips.GValue.blob_type, "xmp-data", packet)
    return copy


def _save_png(picture: Any, fresh: Path, options: dict[str, Any], chunk: bytes) -> None:
    """Save a PNG with one more chunk behind its header: libvips hides XMP in a compressed one that readers overlook."""
    pyvips = libvips()

    trouble: list[OSError] = []
    left = gpano.PNG_HEADER
    with fresh.open("wb") as file:

        def put(data: bytes) -> int:
            nonlocal left
            rest = memoryview(data)
            try:
                if left:
                    file.write(rest[:left])
                    rest, left = rest[left:], max(0, left - len(rest))
                    file.write(chunk if not left else b"")
                file.write(rest)
            except OSError as error:  # libvips takes no exceptions: stop here, and raise it below
                trouble.append(error)
                return 0
            return len(data)

        target = pyvips.TargetCustom()
        target.on_write(put)
        try:
            picture.pngsave_target(target, **options)
        except pyvips.Error:
            if not trouble:
                raise
    if trouble:
        raise trouble[0]
