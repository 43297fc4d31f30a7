"""A coarser level of a canvas as a picture: what the finer ones are painted from, or will be."""

from __future__ import annotations

from pathlib import Path

from raytile.api import settled
from raytile.canvas import store
from raytile.errors import CanvasError, InvalidRequest

MOST = 2**27
"""Pixels that are held at once."""


def export_level(canvas: Path | str, level: int, file: Path, overwrite: bool = False) -> Path:
    """Decode level `level` (0 is the coarsest) of a canvas, finished or not, here and now, and write it to `file`, PNG
    or JPEG by its ending. Raises `CanvasError` or `InvalidRequest`, one line that names the fix."""
    from PIL import Image

    from raytile.engine.preview import level_picture

    if file.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InvalidRequest(f"cannot write {file.name}: the name must end in .png or .jpg")
    if file.exists() and not overwrite:
        raise CanvasError(f"{file} exists: choose another name, or replace it with --overwrite")
    found = store.open(canvas)
    head, plan = found.head(), settled(found.head().request)
    if plan.hash != head.plan_hash:
        was = head.versions.get("raytile", "another raytile")
        raise InvalidRequest(f"{canvas} was begun with another model folder or by {was}: decode it with that")
    if not 0 <= level < len(plan.levels) - 1:
        raise InvalidRequest(f"level: {canvas} has {len(plan.levels) - 1} coarser levels, numbered from 0")
    if head.level <= level and not head.denoised:
        raise InvalidRequest(f"level: {canvas} is at level {head.level}: wait until it is past level {level}")
    tiling, factor = plan.levels[level].tiling, plan.spec.factor
    height, width = tiling.y.cells * factor, tiling.x.cells * factor
    if height * width > MOST:
        raise InvalidRequest(f"level: {width}x{height} pixels are too many for a preview: choose a coarser level")
    picture = level_picture(plan, found, level)
    fresh = file.with_name(f".{file.name}.new{file.suffix}")
    try:
        Image.fromarray(picture).save(fresh, quality=92)
        fresh.replace(file)
    except OSError as error:
        raise CanvasError(f"cannot write {file}: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return file
