"""schemathesis over a real service's OpenAPI document: no fault of the server, no answer that the document does not
tell of, whatever is sent, in the order that links between routes suggest too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from raytile.serve.keys import Keys
from tests.acceptance.clusters import scratch
from tests.acceptance.common import report, say
from tests.acceptance.service_hostile import LIMITS
from tests.acceptance.services import serving

EXAMPLES = int(os.environ.get("RAYTILE_SCHEMA_EXAMPLES", "25"))
SECONDS = int(os.environ.get("RAYTILE_SCHEMA_SECONDS", "900"))


def schemathesis(url: str, key: str, place: Path) -> tuple[bool, dict[str, Any]]:
    """A run of schemathesis over the whole document; whether nothing was found, and what it says of itself."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "-n", str(EXAMPLES)),
        *("--checks", f"{checks},response_schema_conformance,unsupported_method", "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--no-shrink", "--seed", "1", "--warnings", "off"),
        *("--generation-database", "none", "--request-timeout", "120", "-H", f"Authorization: Bearer {key}"),
        *("--max-time", str(SECONDS)),
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    (place / "schemathesis.log").write_text(done.stdout + done.stderr)
    tail = done.stdout[done.stdout.rfind("SUMMARY") :]
    cases = re.search(r"(\d+) generated", tail)
    failures = re.findall(r"❌ (.+?): (\d+)", tail)
    if done.returncode:
        say(done.stdout[-6000:])
    return done.returncode == 0, {"cases": int(cases[1]) if cases else 0, "failures": dict(failures)}


def main() -> None:
    with scratch(quick=False) as place, serving(place / "a", place / "store", workers=2, **LIMITS) as service:
        _, key = Keys(service.records.objects, time.time).add("schemathesis", ["render", "read"])
        fine, figures = schemathesis(service.url, key, place)
        lives = service.ready()
    report(
        "schemathesis finds no fault of the server and no undocumented answer",
        {"nothing found": fine, "at least 1000 cases": figures["cases"] >= 1000, "the service lives": lives},
        figures,
    )


if __name__ == "__main__":
    main()
