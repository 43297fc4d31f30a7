"""The memory that a process says it held is its own."""

from __future__ import annotations

import subprocess
import sys

from raytile.engine.memory import peak_rss_bytes

SAY = (
    "from raytile.engine.memory import peak_rss_bytes; held = bytearray(b'x') * {0}; del held; print(peak_rss_bytes())"
)


def said(megabytes: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SAY.format(f"{megabytes} * 2**20")], check=True, stdout=subprocess.PIPE, text=True
    )
    return int(done.stdout)


def test_it_counts_what_was_held_and_not_what_the_parent_holds() -> None:
    large = bytearray(b"x") * (300 * 2**20)
    assert peak_rss_bytes() >= len(large)
    little, more = said(1), said(200)
    assert little < 150 * 2**20
    assert more - little > 190 * 2**20
    del large
