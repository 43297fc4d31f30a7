"""Reads deploy/Dockerfile as a builder would: its stages, and the files that it is given."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and what it is told, comments left out."""

    def values(self, instruction: str) -> list[str]:
        return [value for found, value in self.steps if found == instruction]

    def variables(self) -> dict[str, str]:
        """What ENV and ARG set."""
        words = [word for value in self.values("ENV") + self.values("ARG") for word in shlex.split(value)]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def copies(self) -> list[tuple[str | None, list[str], str]]:
        """Each COPY: the stage it takes from (None: what the builder was given), sources, target."""
        found = []
        for value in self.values("COPY"):
            words = shlex.split(value)
            flags = [word for word in words if word.startswith("--")]
            *sources, target = [word for word in words if not word.startswith("--")]
            (origin,) = [flag.removeprefix("--from=") for flag in flags] or [None]
            found.append((origin, sources, target))
        return found


def stages(file: Path = DOCKERFILE) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage, and the stages."""
    with file.open("rb") as stream:
        structure = DockerfileParser(fileobj=stream).structure
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for step in structure:
        instruction, value = step["instruction"], step["value"]
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            for argument, default in arguments.items():
                base = base.replace(f"${{{argument}}}", default)
            found.append(Stage(base, name))
        elif instruction == "COMMENT":
            continue
        elif found:
            found[-1].steps.append((instruction, value))
        else:
            name, _, default = value.partition("=")
            arguments[name] = default
    return arguments, found


def context(root: Path = ROOT) -> list[str]:
    """The files that the builder is given: all but what .dockerignore names, of whose patterns the last word counts."""
    lines = (root / ".dockerignore").read_text().splitlines()
    rules = [(line.removeprefix("!"), line[0] == "!") for line in lines if line and line[0] != "#"]
    kept = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in (".git", ".venv")]  # many files, and `*` names them
        for file in files:
            name = (Path(folder) / file).relative_to(root).as_posix()
            if ([sent for pattern, sent in rules if _names(pattern, name)] or [True])[-1]:
                kept.append(name)
    return sorted(kept)


def _names(pattern: str, name: str) -> bool:
    """Whether the pattern, which holds from the root on, names this file or a folder above it."""
    parts = re.split(r"(\*\*/|\*)", pattern)
    expression = "".join({"**/": "(.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    above = [parent.as_posix() for parent in Path(name).parents][:-1]
    return any(re.fullmatch(expression, place) for place in (name, *above))


def is_sent(name: str, root: Path = ROOT) -> bool:
    """Whether the builder is given this file or folder, or something in it."""
    return any(file == name or file.startswith(f"{name}/") for file in context(root))
