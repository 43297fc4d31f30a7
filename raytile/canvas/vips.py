"""libvips, by its binding; loaded where it is needed, since that takes a while."""

from __future__ import annotations

import os
from typing import Any

CONCURRENCY = "VIPS_CONCURRENCY"


def libvips() -> Any:
    """The module `pyvips`.

    For each of its threads libvips holds rows as wide as the picture, and what it does here (decode, scale, encode a
    stream) is one thread's work. So it gets one, unless the environment says more, which it reads when it is loaded."""
    os.environ.setdefault(CONCURRENCY, "1")
    import pyvips  # type: ignore[import-untyped]  # ships neither stubs nor a marker

    return pyvips
