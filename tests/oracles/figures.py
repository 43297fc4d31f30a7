"""How far raytile is from an oracle, and the recorded arrays of oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORDED = Path(__file__).parent / "recorded"
BAR = 1e-4

Array = NDArray[Any]


def far(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value of the oracle."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def reached(what: str, ours: Any, theirs: Any, bar: float = BAR) -> None:
    """Print the figure (pytest -s shows it) and hold it to the bar."""
    figure = far(ours, theirs)
    print(f"\noracle | {what} | {figure:.1e}")
    assert figure <= bar, f"{what}: {figure:.1e} is more than {bar:.0e}"


def recorded(name: str) -> dict[str, Array]:
    """The arrays of `recorded/NAME.npz`."""
    with np.load(RECORDED / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
