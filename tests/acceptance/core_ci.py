"""`bash .ci/run` on a fresh clone, under 20 minutes."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.acceptance.common import bare_environment, fresh_clone, report, say

CLOSING = re.compile(r"^=*\s*(.*\b\d+ passed\b.* in [\d.]+s.*?)\s*=*$")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="raytile-ci-") as scratch:
        clone = fresh_clone(Path(scratch, "raytile"))
        start = time.monotonic()
        done = subprocess.run(
            ["bash", ".ci/run"], cwd=clone, env=bare_environment(Path(scratch, "home")), capture_output=True, text=True
        )
        minutes = (time.monotonic() - start) / 60
    say("\n".join((done.stdout + done.stderr).splitlines()[-30:]))
    closing = [match[1] for line in done.stdout.splitlines() if (match := CLOSING.match(line))]
    report(
        "bash .ci/run on a fresh clone, under 20 minutes",
        {"exit code 0": done.returncode == 0, "tests ran": bool(closing), "under 20 minutes": minutes < 20},
        {"minutes": round(minutes, 2), "tests": closing[-1] if closing else None, "exit_code": done.returncode},
    )


if __name__ == "__main__":
    main()
