"""Laws 1 to 6, 8 and 9: the tests that state them are run, and counted, law by law."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

from tests.acceptance.common import KEPT, ROOT, report, say

LAWS = {
    "1 cover": ["tests/plan/test_plan.py", "tests/sync/test_sync.py", "tests/geometry"],
    "2 same request, same picture": ["tests/engine/test_same_picture.py", "tests/models/test_rows.py"],
    "3 one window is plain diffusion": ["tests/engine/test_oracles.py", "tests/models/test_one_window.py"],
    "2, 4, 5, 6 on Ray": ["tests/engine/test_ray.py"],
    "5 foretold": ["tests/plan/test_route.py"],
    "8 always a canvas": ["tests/canvas", "tests/engine/test_survival.py"],
    "9 home across a seam": ["tests/geometry/test_geometry.py"],
    "the rooms": ["tests/test_imports.py"],
}


def main() -> None:
    figures, checks = {}, {}
    KEPT.mkdir(exist_ok=True)
    for law, paths in LAWS.items():
        say(law)
        result = KEPT / "laws.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", *paths, f"--junit-xml={result}"], cwd=ROOT, stdout=sys.stderr, check=False
        )
        suite = ElementTree.parse(result).getroot().find("testsuite")
        assert suite is not None
        counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        figures[law] = counts
        checks[law] = counts["tests"] > counts["skipped"] and counts["failures"] == counts["errors"] == 0
        result.unlink()
    report("each law has its tests, and they hold", checks, figures)


if __name__ == "__main__":
    main()
