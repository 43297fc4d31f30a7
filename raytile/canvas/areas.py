"""Means over blocks of pixels, as coarse levels want inputs: a block has one mean, whatever box is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from raytile.geometry.box import Box

if TYPE_CHECKING:
    from raytile.canvas.arrays import Numbers

HELD = 32 * 2**20  # bytes of means that are kept, and one square more
WHITE = 255


class Areas:
    """Means of k x k blocks of 8-bit pictures, from 0 to 1; those read last are kept, `held` bytes of them.

    A mean is the float32 nearest to an exact integer sum over 255 times the pixels there are."""

    def __init__(self, side: int, held: int = HELD) -> None:
        """Reads squares of about `side` pixels, a chunk."""
        self._side, self._most = side, held
        self._kept: OrderedDict[tuple[str, int, int, int], Numbers] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def mean(self, name: str, shape: tuple[int, int, int], box: Box, k: int, read: Callable[[Box], Numbers]) -> Numbers:
        """float32 (channels, h, w) of the blocks in `box`, of the picture `name` of this shape that `read` reads.

        A block that reaches over the picture's edge is the mean of what is inside; one wholly outside is 0."""
        import numpy as np

        channels, height, width = shape
        found = np.zeros((channels, box.height, box.width), np.float32)
        blocks = max(1, self._side // k)  # along a square
        inside = box.intersect(Box(0, -(-height // k), 0, -(-width // k)))
        if not inside.area:
            return found
        for row in range(inside.y0 // blocks, -(-inside.y1 // blocks)):
            for column in range(inside.x0 // blocks, -(-inside.x1 // blocks)):
                means = self._square(name, shape, row, column, blocks, k, read)
                y, x = row * blocks, column * blocks
                part = Box(y, y + means.shape[1], x, x + means.shape[2]).intersect(inside)
                to, of = part.shift(-box.y0, -box.x0), part.shift(-y, -x)
                found[:, to.y0 : to.y1, to.x0 : to.x1] = levels(means[:, of.y0 : of.y1, of.x0 : of.x1])
        return found

    def _square(
        self,
        name: str,
        shape: tuple[int, int, int],
        row: int,
        column: int,
        blocks: int,
        k: int,
        read: Callable[[Box], Numbers],
    ) -> Numbers:
        key = name, k, row, column
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        side = blocks * k
        y, x = row * side, column * side
        values = read(Box(y, min(y + side, shape[1]), x, min(x + side, shape[2])))
        means = values if k == 1 else block_means(values, k)  # a pixel is its own mean: a quarter of the bytes
        with self._lock:
            if key not in self._kept:
                self._kept[key] = means
                self._bytes += means.nbytes
                while self._bytes > self._most and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return means


def levels(means: Numbers) -> Numbers:
    """Bytes as shares of white; what are shares already as they are."""
    import numpy as np

    return (means / WHITE).astype(np.float32) if means.dtype == np.uint8 else means


def block_means(values: Numbers, k: int) -> Numbers:
    """float32 means / 255 of the k x k blocks of uint8 (c, h, w); blocks at the far edges of what is there."""
    import numpy as np

    channels, height, width = values.shape
    rows, columns = -(-height // k), -(-width // k)
    if (height, width) != (rows * k, columns * k):
        values = np.pad(values, ((0, 0), (0, rows * k - height), (0, columns * k - width)))
    sums = values.reshape(channels, rows * k, columns, k).sum(axis=3, dtype=np.uint32)
    sums = sums.reshape(channels, rows, k, columns).sum(axis=2, dtype=np.uint64)
    high = np.minimum(k, height - k * np.arange(rows))
    wide = np.minimum(k, width - k * np.arange(columns))
    means: Numbers = sums / (WHITE * (high[:, None] * wide[None, :]).astype(np.float64))
    return means.astype(np.float32)
