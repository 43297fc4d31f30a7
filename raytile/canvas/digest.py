"""SHA-256 of what is painted: of one tile's raw values, and of a whole array from its tiles' digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def digest(values: np.ndarray[Any, Any]) -> str:
    """SHA-256 (hex) of an array's raw little-endian values, last axis fastest; the shape does not enter."""
    import numpy as np

    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()


def combine(digests: Iterable[str]) -> str:
    """One digest (hex) for all tiles: SHA-256 over their 32-byte digests, laid end to end in tile order."""
    whole = hashlib.sha256()
    for each in digests:
        whole.update(bytes.fromhex(each))
    return whole.hexdigest()
