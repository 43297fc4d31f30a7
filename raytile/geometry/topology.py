"""How the sides of a canvas are joined. A seam joins two sides; crossing it and coming back leads home (law 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right", "top", "bottom"]
OPPOSITE: dict[Side, Side] = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Seam:
    """Side `one` meets side `other`; a position along one side is the same position along the other."""

    one: Side
    other: Side


@dataclass(frozen=True)
class Topology:
    """A plane, a cylinder (one pair of sides joined) or a torus (both)."""

    wrap_y: bool
    wrap_x: bool

    @classmethod
    def of(cls, wrap: str) -> Topology:
        """From the request's word: none, x, y or xy."""
        return cls(wrap_y="y" in wrap, wrap_x="x" in wrap)

    @property
    def seams(self) -> tuple[Seam, ...]:
        across = (Seam("right", "left"),) if self.wrap_x else ()
        return (*across, Seam("bottom", "top")) if self.wrap_y else across

    def partner(self, side: Side) -> Side | None:
        """The side one comes out of when leaving by `side`; None where the canvas ends."""
        for seam in self.seams:
            if side == seam.one:
                return seam.other
            if side == seam.other:
                return seam.one
        return None

    def cross(self, side: Side, y: int, x: int, height: int, width: int) -> tuple[int, int] | None:
        """The cell one step beyond edge cell (y, x), leaving by `side`; None where the canvas ends.

        >>> Topology(wrap_y=False, wrap_x=True).cross("right", 3, 9, 6, 10)
        (3, 0)
        """
        entered = self.partner(side)
        if entered is None:
            return None
        if entered in ("left", "right"):
            return y, 0 if entered == "left" else width - 1
        return (0 if entered == "top" else height - 1), x
