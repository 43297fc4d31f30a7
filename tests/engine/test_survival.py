"""Law 8: whenever the power goes, what is on disk opens as a zarr whose head says truly how far it came."""

from __future__ import annotations

import random
from pathlib import Path

from raytile.canvas import store
from tests.engine.survival import killed, paint_command, truth


def test_a_render_killed_at_any_moment_leaves_an_honest_canvas(tmp_path: Path) -> None:
    out = tmp_path / "whole.zarr"
    length = killed(paint_command(out, "--in-process", "--quiet"), out, None)
    whole = store.open(tmp_path / "whole.zarr")
    pixels = {tile: whole.pixels_digest(tile) for tile in range(whole.layout.tiles)}
    moments = random.Random(8)
    left = []
    for number in range(3):
        out = tmp_path / f"{number}.zarr"
        killed(paint_command(out, "--in-process", "--quiet"), out, length * moments.uniform(0.0, 1.0))
        left.append(truth(out, pixels))
    assert any("running" in state for state in left), left
