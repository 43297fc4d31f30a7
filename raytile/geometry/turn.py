"""The eight ways to lay a picture of square cells: turns, as numbers 0 to 7.

Turn t mirrors in x first (the last axis is flipped) where t >= 4, then makes t % 4 quarter turns counter-clockwise, as
`np.rot90` does: values in a window = turn of the values of the box on the canvas. 0 changes nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TURNS = 8
MIRROR = 4
"""Mirrored in x, not turned. `MIRROR + 2` is mirrored in y."""


def compose(first: int, then: int) -> int:
    """The turn that does `first`, then `then`.

    >>> compose(1, 1), compose(MIRROR, MIRROR), compose(1, MIRROR) == compose(MIRROR, 1)
    (2, 0, False)
    """
    quarters = -(first % 4) if then >= MIRROR else first % 4  # a mirror turns what was turned before the other way
    return (first ^ then) & MIRROR | (then + quarters) % 4


def inverse(turn: int) -> int:
    """The turn that undoes `turn`."""
    return turn if turn >= MIRROR else -turn % 4


def extent(turn: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of a box of `height` x `width` once turned."""
    return (width, height) if turn % 2 else (height, width)


def place(turn: int, height: int, width: int, sub: tuple[int, int, int, int]) -> tuple[int, int]:
    """Where (y, x) the part `sub` = (y0, y1, x0, x1) of a box of `height` x `width` begins once the box is turned.

    >>> place(1, 4, 6, (0, 1, 0, 2))  # the top left corner comes to the bottom left
    (4, 0)
    """
    y0, y1, x0, x1 = sub
    if turn >= MIRROR:
        x0, x1 = width - x1, width - x0
    return ((y0, x0), (width - x1, y0), (height - y1, width - x1), (x0, height - y1))[turn % 4]


def places(turn: NDArray[np.int64], size: NDArray[np.int64], sub: NDArray[np.int64]) -> NDArray[np.int64]:
    """`place` of many: turn [n], size [n, (height, width)], sub [n, (y0, y1, x0, x1)] -> [n, (y, x)]."""
    height, width = size[:, 0], size[:, 1]
    y0, y1 = sub[:, 0], sub[:, 1]
    mirrored, quarters = turn >= MIRROR, turn % 4
    x0 = np.where(mirrored, width - sub[:, 3], sub[:, 2])
    x1 = np.where(mirrored, width - sub[:, 2], sub[:, 3])
    y = np.choose(quarters, (y0, width - x1, height - y1, x0))
    x = np.choose(quarters, (x0, y0, width - x1, height - y1))
    return np.stack((y, x), axis=1)
