"""What the acceptance scripts share: how they report, and how they clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "accept"
"""Where figures, and pictures to look at, are left. Git ignores it."""


def report(line: str, checks: Mapping[str, bool], figures: Mapping[str, Any]) -> NoReturn:
    """Print the one JSON document of an acceptance line, the last line of stdout, and exit: 0 if every check holds."""
    failed = [name for name, holds in checks.items() if not holds]
    print(json.dumps({"line": line, "passed": not failed, "failed": failed, "figures": dict(figures)}), flush=True)
    sys.exit(bool(failed))


def say(*words: object) -> None:
    """Progress for whoever watches, on standard error."""
    print(*words, file=sys.stderr, flush=True)


def fresh_clone(place: Path) -> Path:
    """A clone of the last commit, without anything that git does not know."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(place)], check=True)
    return place


def bare_environment(home: Path) -> dict[str, str]:
    """The variables of a fresh machine: a path, an empty home, and how pip reaches its index, if that is set."""
    outside = ":".join(p for p in os.environ["PATH"].split(":") if not (Path(p).parent / "pyvenv.cfg").exists())
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "PYENV_"))}
    kept.pop("PIP_CONSTRAINT", None)
    home.mkdir(parents=True, exist_ok=True)
    return {"PATH": outside, "HOME": str(home), "LANG": "C.UTF-8", **kept}
