"""The example in examples/ runs as it is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_example_runs(tmp_path: Path) -> None:
    from PIL import Image

    example = Path(__file__).parents[2] / "examples" / "poster.py"
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path), "toy"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "step 1 of" in done.stdout
    with Image.open(done.stdout.splitlines()[-1]) as picture:
        assert picture.size == (400, 200)
