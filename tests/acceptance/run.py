"""Runs acceptance lines: `python -m tests.acceptance.run [AREA] [--only WORD]`, or `make accept AREA=core`.

A line is a module AREA_NAME.py beside this one. It prints one JSON document {line, passed, figures, ...} as its last
line of stdout. The figures go to accept/AREA.json, each with the commit, the time and the load they were taken at."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.acceptance.common import KEPT, ROOT, say


def lines(folder: Path, area: str, only: str) -> list[str]:
    """The names of the line modules of `area` (all areas if empty) whose name holds `only`, in order."""
    names = sorted(path.stem for path in folder.glob(f"{area or '*'}_*.py"))
    return [name for name in names if not name.startswith("test_") and only in name]


def commit() -> str:
    """The commit in the tree, marked where the tree has changes."""
    said = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=ROOT, capture_output=True)
    return said.stdout.decode().strip() or "unknown"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")]
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
    }


def run_line(module: str) -> dict[str, Any]:
    """Run one line in a process of its own; a script that says nothing has failed."""
    facts: dict[str, Any] = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
    }
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    facts["seconds"] = round(time.monotonic() - start, 1)
    said = done.stdout.strip().splitlines()
    try:
        document = json.loads(said[-1])
        facts |= document
        facts["passed"] = document["passed"] is True and done.returncode == 0
    except (IndexError, ValueError, KeyError, TypeError):
        facts |= {"line": module, "passed": False, "failed": [f"no report, exit code {done.returncode}"], "figures": {}}
    return facts


def store(folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Put the line into accept/AREA.json beside what other lines said before."""
    file = folder / f"{name.partition('_')[0]}.json"
    known = json.loads(file.read_text()) if file.exists() else {"lines": {}}
    known["machine"] = machine()
    known["lines"][name] = facts
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main(arguments: Sequence[str] | None = None, folder: Path = Path(__file__).parent, kept: Path = KEPT) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.run", description=__doc__)
    parser.add_argument("area", nargs="?", default="")
    parser.add_argument("--only", default="", help="lines whose name holds this")
    asked = parser.parse_args(arguments)
    names = lines(folder, asked.area, asked.only)
    if not names:
        say(f"error: no line {asked.area or '*'}_*{asked.only}* in {folder}")
        return 2
    package = ".".join(folder.relative_to(ROOT).parts) + "." if folder.is_relative_to(ROOT) else ""
    passed = []
    for name in names:
        say(f"--- {name}")
        facts = run_line(package + name)
        store(kept, name, facts)
        passed.append(facts["passed"])
        say(json.dumps(facts["figures"], indent=1))
        mark = "pass" if facts["passed"] else "FAIL"
        why = f" ({', '.join(facts['failed'])})" if facts.get("failed") else ""
        print(f"{mark}  {name:20} {facts['seconds']:8.1f} s  {facts['line']}{why}", flush=True)
    print(f"{sum(passed)} of {len(passed)} lines hold; figures in {kept}")
    return 0 if all(passed) else 1


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
