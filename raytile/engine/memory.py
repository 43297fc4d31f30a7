"""How much memory this process has held."""

from __future__ import annotations

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_rss_bytes() -> int:
    """The most resident memory since the process began.

    On Linux what `getrusage` says survives exec, and so counts what the parent held: the kernel's own mark does not."""
    with suppress(OSError):
        marked = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if marked is not None:
            return int(marked[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
