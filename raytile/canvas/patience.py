"""How long to go on asking a store that does not answer."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from raytile.errors import CanvasError

VARIABLE = "RAYTILE_STORE_DEADLINE"
DEFAULT = 120.0


@dataclass(frozen=True)
class Patience:
    """Try for `seconds`, or until `stop` is set, and wait `answer` seconds for one request to be answered.

    `on_trouble` hears why, at the first try of a call that fails."""

    seconds: float
    answer: float = 20.0
    stop: threading.Event | None = None
    on_trouble: Callable[[str], None] | None = None


def store_deadline() -> float:
    """Seconds to wait for a store: what the environment variable RAYTILE_STORE_DEADLINE says, else two minutes."""
    asked = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(asked or DEFAULT)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise CanvasError(f"{VARIABLE}={asked!r} is not a number of seconds: set it to one, such as 120")
    return seconds
