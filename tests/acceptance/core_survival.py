"""Law 8: renders are killed at 20 random moments; each canvas opens and tells the truth."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from raytile.canvas import store
from tests.acceptance.common import report, say
from tests.engine.survival import killed, paint_command, truth

ROUNDS = 20


def main() -> None:
    import ray

    address = ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="error").address_info[
        "address"
    ]
    moments = random.Random(20)
    figures, checks = {}, {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        ways = {"in one process": ["--in-process"], "on Ray": ["--address", address, "--workers", "2"]}
        lengths, pixels = {}, {}
        for way, more in ways.items():
            out = Path(folder, f"whole-{len(lengths)}.zarr")
            lengths[way] = killed(paint_command(out, *more, "--quiet"), out, None)
            whole = store.open(out)
            pixels[way] = {tile: whole.pixels_digest(tile) for tile in range(whole.layout.tiles)}
        checks["the same picture both ways"] = len({str(p) for p in pixels.values()}) == 1
        lies, left = 0, []
        for number in range(ROUNDS):
            way = "on Ray" if number % 2 else "in one process"
            out = Path(folder, f"{number}.zarr")
            after = lengths[way] * moments.uniform(0.0, 1.0)
            killed(paint_command(out, *ways[way], "--quiet"), out, after)
            try:
                state = truth(out, pixels[way])
            except Exception as error:
                lies, state = lies + 1, f"{type(error).__name__}: {error}"
            left.append(f"{way}, after {after:.1f} s: {state}")
            say(left[-1])
        figures["rounds"], figures["lies"], figures["left"] = ROUNDS, lies, left
        checks[f"{ROUNDS} canvases open and tell the truth"] = lies == 0
        checks["some were killed in mid-render"] = any(
            "running, " in state and "running, 0" not in state for state in left
        )
    ray.shutdown()
    report("law 8: SIGKILL at 20 random moments", checks, figures)


if __name__ == "__main__":
    main()
