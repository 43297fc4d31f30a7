"""The zarr arrays of a canvas: made, opened, read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from raytile.canvas.bytes import Bytes
from raytile.canvas.layout import DIMENSIONS, ArraySpec, CanvasLayout, slices
from raytile.errors import CanvasError
from raytile.geometry.box import Box

if TYPE_CHECKING:
    import numpy as np
    import zarr
    from zarr.storage import StoreLike

    Numbers = np.ndarray[Any, Any]
    ZarrArray = zarr.Array[Any]

GROUP = "zarr.json"
MADE_BY = {"made_by": "raytile"}  # what a group says of itself, beside its layout
MAKER = "maker"


def make_arrays(place: StoreLike, layout: CanvasLayout, more: Iterable[ArraySpec] = (), maker: str = "") -> None:
    """Write the zarr metadata of an empty canvas with `more` arrays; `maker`: whom the group names as its maker."""
    import zarr
    from zarr.codecs import ZstdCodec

    attributes = {**MADE_BY, "layout": layout.described(), **({MAKER: maker} if maker else {})}
    group = zarr.create_group(store=place, zarr_format=3, attributes=attributes)
    for name, shape, chunks, dtype in (*layout.arrays(), *more):
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=DIMENSIONS,
        )


def open_array(objects: Bytes, name: str, mode: Literal["r", "r+"] = "r") -> ZarrArray:
    """Open one array of a canvas; `CanvasError` when it does not open."""
    import zarr
    from zarr.errors import BaseZarrError

    def opened() -> ZarrArray:
        return zarr.open_array(store=objects.arrays(), path=name, mode=mode)

    try:
        array = objects.run(f"open array {name!r} of {objects.where}", opened)
    except (CanvasError, OSError, ValueError, KeyError, TypeError, BaseZarrError) as error:
        if isinstance(error, CanvasError) and not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise CanvasError(f"{objects.where} is damaged: its array {name!r} does not open ({error})") from error
    # A chunk equal to the fill value must still be stored: a painted black tile is not an unpainted one.
    return array.with_config({"write_empty_chunks": True})


def read_box(objects: Bytes, array: ZarrArray, box: Box) -> Numbers:
    """All channels of a box; `CanvasError` for what is unreadable, or does not decode."""
    import numpy as np

    doing = f"read {array.path} of {objects.where}"
    try:
        return objects.run(doing, lambda: np.asarray(array[slices(box)]))
    except (RuntimeError, ValueError) as error:
        raise CanvasError(f"cannot {doing}: {error}") from error


def attributes(group: bytes | None) -> dict[str, Any]:
    """What a group says of itself: nothing, if it is not there or does not read."""
    try:
        found = json.loads(group or b"")["attributes"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def layout_of(image: ZarrArray, latents: ZarrArray, group: bytes | None, where: str) -> CanvasLayout:
    """The layout that these two arrays have, and the levels that their group tells of; `CanvasError` when they are not
    those of a canvas."""
    damaged = CanvasError(f"{where} is damaged: its arrays are not those of a raytile canvas")
    if len(image.shape) != 3 or len(latents.shape) != 3 or image.chunks[1] % latents.chunks[1]:
        raise damaged
    try:
        said = attributes(group).get("layout", {}).get("levels", ())
        levels = tuple((int(rows), int(columns)) for rows, columns in said)
    except (TypeError, ValueError, AttributeError):
        raise damaged from None
    layout = CanvasLayout(
        width=image.shape[2],
        height=image.shape[1],
        channels=latents.shape[0],
        rows=latents.shape[1],
        columns=latents.shape[2],
        tile_cells=latents.chunks[1],
        factor=image.chunks[1] // latents.chunks[1],
        levels=levels,
    )
    found: tuple[object, ...] = (image.shape, image.chunks, str(image.dtype))
    found += (latents.shape, latents.chunks, str(latents.dtype))
    expected: tuple[object, ...] = (layout.image_shape, layout.image_chunks, "uint8")
    expected += (layout.latents_shape, layout.latents_chunks, "float32")
    if found != expected:
        raise damaged
    return layout
