"""Fresh clone, no environment: `make demo`, `make demo` again, `make test`; times, and the picture to look at."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.acceptance.common import KEPT, bare_environment, fresh_clone, report, say
from tests.acceptance.core_ci import CLOSING

WIDTH, HEIGHT = 2048, 1024


def main() -> None:
    figures: dict[str, Any] = {}
    checks: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="raytile-demo-") as scratch:
        clone = fresh_clone(Path(scratch, "raytile"))
        environment = bare_environment(Path(scratch, "home"))
        for name, target in (("first_demo", "demo"), ("second_demo", "demo"), ("test", "test")):
            say(f"make {target}")
            start = time.monotonic()
            done = subprocess.run(["make", target], cwd=clone, env=environment, capture_output=True, text=True)
            figures[f"{name}_seconds"] = round(time.monotonic() - start, 1)
            checks[f"{name} exits 0"] = done.returncode == 0
            said = (done.stdout + done.stderr).splitlines()
            say("\n".join(said[-20:]))
            if name == "first_demo":
                checks["progress is shown"] = any("to go" in line for line in said)
                figures["said"] = [line for line in said if line.startswith("painted") or "evaluations" in line]
            if name == "second_demo":
                checks["the second run installs nothing"] = not any(line.startswith("installing") for line in said)
                checks["the demo takes at most 3 minutes once installed"] = figures["second_demo_seconds"] <= 180
                figures |= look(clone / "out")
                checks["canvas and picture are there"] = figures.get("size") == [WIDTH, HEIGHT]
            if name == "test":
                closing = [match[1] for line in said if (match := CLOSING.match(line))]
                figures["tests"] = closing[-1] if closing else None
    report("fresh clone: make demo, make demo again, make test", checks, figures)


def look(out: Path) -> dict[str, Any]:
    """Keep the picture, and a copy rolled by half so that the wrapped side is in its middle; measure both seams.

    A seam ratio is the mean step across an edge over that of the sixteen nearest lines between latent cells: 1 where
    the edge is like any other."""
    import numpy as np
    from PIL import Image

    if not (out / "planet.zarr").is_dir() or not (out / "planet.png").is_file():
        return {}
    with Image.open(out / "planet.png") as image:
        picture = np.asarray(image.convert("RGB"))
    KEPT.mkdir(exist_ok=True)
    Image.fromarray(picture).save(KEPT / "planet.png")
    rolled = np.roll(picture, WIDTH // 2, axis=1)
    Image.fromarray(rolled).save(KEPT / "planet-rolled.png")
    Image.fromarray(rolled[HEIGHT // 4 : 3 * HEIGHT // 4, WIDTH // 2 - 400 : WIDTH // 2 + 400]).save(
        KEPT / "planet-wrapped-side.png"
    )
    tile = 512
    edges = [seam_ratio(picture.astype(float), x) for x in range(tile, WIDTH, tile)]
    rows = [seam_ratio(picture.astype(float).transpose(1, 0, 2), y) for y in range(tile, HEIGHT, tile)]
    others = [seam_ratio(rolled.astype(float), x) for x in range(72, WIDTH - 64, 8) if x % tile]
    return {
        "size": [picture.shape[1], picture.shape[0]],
        "seam_ratio_wrapped_side": round(seam_ratio(rolled.astype(float), WIDTH // 2), 3),
        "seam_ratio_tile_edges": [round(ratio, 3) for ratio in (*edges, *rows)],
        "seam_ratio_other_lines": {p: round(float(np.percentile(others, p)), 3) for p in (1, 50, 99)},
    }


def seam_ratio(picture: Any, at: int, cell: int = 8) -> float:
    """The mean absolute step between columns at-1 and at, over that of the eight lines between cells to either side."""
    import numpy as np

    def step(x: int) -> float:
        return float(np.abs(picture[:, x] - picture[:, x - 1]).mean())

    return step(at) / float(np.mean([step(at + cell * k) for k in range(-8, 9) if k]))


if __name__ == "__main__":
    main()
