"""Saved latents and sampler memory of a phase, an object for each tile, below `snapshots/` of the canvas.

An object: one line of JSON (shape, and SHA-256 of what follows), then float32 little-endian values. Noise does not
compress, so nothing tries to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from raytile.canvas.bytes import Bytes
from raytile.errors import CanvasError

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

FOLDER = "snapshots/"


def write(objects: Bytes, phase: int, tile: int, values: Numbers) -> int:
    """Store one tile of a snapshot, safely; returns the bytes it takes."""
    import numpy as np

    data = np.ascontiguousarray(values, "<f4").tobytes()
    described = {"phase": phase, "tile": tile, "shape": values.shape, "sha256": hashlib.sha256(data).hexdigest()}
    whole = json.dumps(described).encode() + b"\n" + data
    objects.write(f"{FOLDER}{phase}/{tile}", whole)
    return len(whole)


def read(objects: Bytes, phase: int, tile: int) -> Numbers:
    """One tile of a snapshot, float32; `CanvasError` when it is not there, or not what was written."""
    import numpy as np

    what = f"tile {tile} of snapshot {phase} of {objects.where}"
    found = objects.read(f"{FOLDER}{phase}/{tile}")
    if found is None:
        raise CanvasError(f"{what} is not there")
    line, _, data = found[0].partition(b"\n")
    try:
        described = json.loads(line)
        if (described["phase"], described["tile"]) != (phase, tile):
            raise ValueError("it is another tile's")
        if described["sha256"] != hashlib.sha256(data).hexdigest():
            raise ValueError("its bytes are not those that were written")
        return np.frombuffer(data, "<f4").reshape(described["shape"]).astype(np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise CanvasError(f"{what} is damaged: {error}") from None


def drop(objects: Bytes, keep: Collection[int] = ()) -> None:
    """Remove all snapshots but these, and those newer than the newest of these: they are being written."""
    newest = max(keep, default=None)
    doomed = []
    for key in objects.sizes(FOLDER):
        phase = key.removeprefix(FOLDER).partition("/")[0]
        if not phase.isdecimal() or newest is None or (int(phase) not in keep and int(phase) < newest):
            doomed.append(key)
    objects.delete(doomed)
