"""Runs the shell blocks of the guides as they are written.

What needs a cluster (`kubectl`, `helm`) is a stand-in that keeps what it was told, to be judged by `check`; what is
behind `kubectl exec ... --` runs here, and so does all the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from deploy.render import documents, examples, render

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STANDIN = """#!{python} -IS
import json, os, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(os.environ["TOLD"], "a") as told:
    told.write(json.dumps([name, *words]) + "\\n")
if name == "kubectl" and "exec" in words and "--" in words:
    after = words[words.index("--") + 1 :]
    os.execvp(after[0], after)
if name == "kubectl" and "get" in words:
    if any("auth_token" in word for word in words):
        import base64
        print(base64.b64encode(os.environ["TOKEN"].encode()).decode(), end="")
    elif "name" in words:
        print("pod/raytile-head-x7k2p")
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: the heading above it, its language and tags, its text."""

    section: str
    tags: tuple[str, ...]
    text: str


def blocks(file: Path) -> list[Block]:
    """All fenced blocks of a guide, in order."""
    found: list[Block] = []
    section, tags, lines = "", None, list[str]()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if tags is None:
                tags, lines = tuple(line[3:].split()), []
            else:
                found.append(Block(section, tags, "\n".join(lines) + "\n"))
                tags = None
        elif tags is not None:
            lines.append(line)
        elif line.startswith("#"):
            section = line.lstrip("#").strip()
    assert tags is None, f"{file}: a block without an end"
    return found


def shell(file: Path, *sections: str) -> list[Block]:
    """Its shell blocks, of these sections if any are named."""
    found = [block for block in blocks(file) if block.tags[:1] == ("sh",)]
    return [block for block in found if not sections or block.section in sections]


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """The text with each pattern replaced; one that changes nothing is an error, so that none outlives its words."""
    for pattern, words in changes.items():
        text, count = re.subn(pattern, words, text)
        assert count, f"{pattern!r} is nowhere in {text!r}"
    return text


@dataclass(frozen=True)
class Shell:
    """A place where blocks are run: `folder` is where they stand, `variables` their environment."""

    scratch: Path
    folder: Path
    variables: Mapping[str, str]

    def run(self, text: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run it in bash, which stops at the first command that fails."""
        tools = self.scratch / "tools"
        tools.mkdir(exist_ok=True)
        for name in ("kubectl", "helm"):
            (tools / name).write_text(STANDIN.format(python=sys.executable))
            (tools / name).chmod(0o755)
        variables = {**os.environ, **self.variables, "TOLD": str(self.scratch / "told")}
        variables["PATH"] = f"{tools}:{BIN}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder, env=variables, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def told(self) -> list[list[str]]:
        """What the stand-ins were told, one list of words a call."""
        file = self.scratch / "told"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# -- what the words of kubectl and helm are judged by

MADE = {
    ("service", "{name}-head-svc"),
    ("service", "{name}-serve-svc"),
    ("secret", "{name}"),
    ("raycluster", "{name}"),
    ("job", "{name}"),
}
"""What KubeRay makes of a RayService, a RayCluster, a RayJob."""
KINDS = {
    "svc": "service", "cm": "configmap", "pods": "pod", "ns": "namespace", "sa": "serviceaccount",
    "rayservices": "rayservice", "rayclusters": "raycluster", "events": "event", "nodes": "node",
}  # fmt: skip
VERBS = {
    "apply", "auth", "create", "delete", "describe", "drain", "exec", "get", "label", "logs", "port-forward", "wait",
}  # fmt: skip
LISTED = {"pod", "event", "node", "crd", "podmonitor"}
"""Kinds that are asked for without a name."""
VALUED = {"-n", "-l", "-c", "-o", "-f"}


def fold(into: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: maps are merged, all else is replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            fold(into[key], value)
        else:
            into[key] = value
    return into


def helm_values(words: list[str], folder: Path) -> dict[str, Any]:
    """The values that -f, --set and --set-string come to."""
    values: dict[str, Any] = {}
    for word, following in pairwise(words):
        if word in ("-f", "--values"):
            fold(values, yaml.safe_load((folder / following).read_text()))
    for word, following in pairwise(words):
        if word in ("--set", "--set-string"):
            path, _, value = following.partition("=")
            keys = [key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", path)]
            leaf: Any = value if word == "--set-string" else yaml.safe_load(value)
            for key in reversed(keys):
                leaf = {key: leaf}
            fold(values, leaf)
    return values


def helm_renders(words: list[str], folder: Path) -> list[dict[str, Any]]:
    """What `helm install|upgrade NAME deploy/chart ...` would make, by Helm itself; raises if the chart refuses."""
    at = next(index for index, word in enumerate(words) if word.endswith("deploy/chart"))
    assert (folder / words[at] / "Chart.yaml").exists(), words
    namespace = words[words.index("-n") + 1]
    return documents(render(helm_values(words, folder), name=words[at - 1], namespace=namespace))


def known_objects() -> list[dict[str, Any]]:
    """All that the chart makes of its example values."""
    return [each for values in examples().values() for each in documents(render(values))]


def check(told: Iterable[list[str]], folder: Path) -> int:
    """Judge each call: helm's by Helm, kubectl's against what is there by then. How many there were."""
    objects = known_objects()
    there = {(each["kind"].lower(), each["metadata"]["name"]) for each in objects}
    there |= {(kind, name.format(name="raytile")) for kind, name in MADE}
    there |= {("namespace", "kube-system"), ("namespace", "raytile")}
    labels, containers = _pods(objects)
    calls = list(told)
    for tool, *words in calls:
        if tool == "helm":
            _check_helm(words, folder)
        else:
            _check_kubectl(words, folder, there, labels, containers)
    return len(calls)


def _check_helm(words: list[str], folder: Path) -> None:
    assert words[0] in {"repo", "install", "upgrade", "rollback", "history", "uninstall", "list"}, words
    if words[0] in ("install", "upgrade"):
        if any(word.endswith("deploy/chart") for word in words):
            assert helm_renders(words, folder)
        else:
            assert words[words.index("--version") + 1] == "1.7.0", words


def _pods(objects: list[dict[str, Any]]) -> tuple[set[tuple[str, str]], set[str]]:
    """Labels and container names of all pods, those of the operator included."""
    labels = {("ray.io/node-type", "head"), ("ray.io/node-type", "worker"), ("ray.io/cluster", "raytile")}
    containers = {"autoscaler"}

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if "template" in node and isinstance(node["template"], dict) and "spec" in node["template"]:
                labels.update((node["template"].get("metadata") or {}).get("labels", {}).items())
                containers.update(each["name"] for each in node["template"]["spec"].get("containers", []))
            for each in node.values():
                look(each)
        elif isinstance(node, list):
            for each in node:
                look(each)

    look(objects)
    return labels, containers


def _check_kubectl(
    words: list[str], folder: Path, there: set[tuple[str, str]], labels: set[tuple[str, str]], containers: set[str]
) -> None:
    before = words[: words.index("--")] if "--" in words else words
    flags = {word: following for word, following in zip(before, [*before[1:], ""], strict=True) if word in VALUED}
    bare, skip = [], False
    for word in before:
        if not skip and not word.startswith("-"):
            bare.append(word)
        skip = word in VALUED
    verb, *rest = bare
    assert verb in VERBS, words
    if "-n" in flags:
        assert ("namespace", flags["-n"]) in there, words
    for file in [flags["-f"]] if "-f" in flags else []:
        for document in documents((folder / file).read_text()):
            there.add((document["kind"].lower(), document["metadata"]["name"]))
    for word in before:
        if word.startswith("--from-file="):
            assert (folder / word.partition("=")[2]).exists(), words
        if word.startswith("--from=cronjob/"):
            assert ("cronjob", word.partition("/")[2]) in there, words
    for pair in flags.get("-l", "").split(","):
        assert not pair or tuple(pair.split("=")) in labels, words
    assert "-c" not in flags or flags["-c"] in containers, words
    if verb == "create":
        kind, *name = [KINDS.get(word, word) for word in rest if word not in ("generic", "tls")]
        there.add((kind, name[0]))
    elif verb == "auth":
        assert rest == ["can-i"], words
    elif rest:
        _named(verb, rest, words, there)
    else:
        assert "-f" in flags or "-l" in flags, words


def _named(verb: str, rest: list[str], words: list[str], there: set[tuple[str, str]]) -> None:
    """What is spoken of is there, or is of a kind that is listed."""
    kind, _, name = rest[0].partition("/")
    if not name and verb in ("exec", "logs", "port-forward", "drain"):
        return  # a pod or node by its own name
    if not name and len(rest) > 1 and "=" not in rest[1] and not re.fullmatch(r"\d+(:\d+)?", rest[1]):
        name = rest[1]
    for each in kind.split(","):
        each = KINDS.get(each, each)
        assert (each, name) in there or each == "pod" or (not name and each in {*LISTED, *(k for k, _ in there)}), words
