"""Law 8 played out: a render is killed at a random moment, and what it left is held to the truth."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import zarr

from raytile.canvas import store


def killed(command: list[str], out: Path, after: float | None) -> float:
    """Start a render and SIGKILL it `after` seconds from when its canvas is there (None: let it end). Returns how long
    it lived from that moment on."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not out.exists():
        time.sleep(0.01)
    start = time.monotonic()
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return time.monotonic() - start


def paint_command(out: Path, *more: str) -> list[str]:
    """A render of the toy model with many tiles, by the command line."""
    return [
        sys.executable, "-m", "raytile", "render", "hello", "--size", "2400x1600", "--model", "toy", "--steps", "6",
        "--tile", "128", "--seed", "3", "--out", str(out), *more,
    ]  # fmt: skip


def truth(out: Path, pixels: dict[int, str]) -> str:
    """What a killed render left: the head's state. Raises AssertionError where the canvas lies.

    `pixels` are the digests of the undisturbed picture's tiles."""
    group = zarr.open_group(str(out), mode="r")
    assert group["image"].shape == (3, 1600, 2400)
    canvas = store.open(out)
    head = canvas.head()
    assert (head.state == "finished") == (head.done == head.tiles_total) == (head.summary is not None)
    for tile in range(head.tiles_total):
        if head.has(tile):
            assert canvas.pixels_digest(tile) == pixels[tile], f"the head says tile {tile} is done"
    return f"{head.state}, {head.done} of {head.tiles_total} tiles"
