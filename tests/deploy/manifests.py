"""Judges rendered manifests by Kubernetes' own schemas and by KubeRay's with their rules, and finds pods in them."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import yaml

from deploy.render import LOADER

Document = dict[str, Any]
SHARED = Path(__file__).parents[3] / "shared" / "tools" / "validate_manifests.py"
"""Judges the ray.io kinds. It stands beside the project, not in it."""
KUBERNETES = "1.37"
OPERATOR = {  # kinds of the Prometheus operator: what may stand in their specs
    "PodMonitor": {"selector", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
}


# -- schemas


def core_problems(documents: Sequence[Document]) -> list[str]:
    """What Kubernetes' schemas say, strictly, of core kinds and of the pod templates inside the others."""
    found = []
    for document in documents:
        group = str(document.get("apiVersion"))
        if group.startswith("ray.io/"):
            for pod in pods([document]):
                wrapped = {
                    "apiVersion": "v1",
                    "kind": "PodTemplate",
                    "metadata": {"name": "x"},
                    "template": pod.template,
                }
                found += [f"{pod.path}: {words}" for words in _strictly(wrapped)]
        elif group.startswith("monitoring.coreos.com/"):
            known = OPERATOR.get(str(document["kind"]), set())
            found += [f"{document['kind']}.spec.{name}: not known" for name in set(document["spec"]) - known]
        else:
            found += [f"{document.get('kind')}: {words}" for words in _strictly(document)]
    return found


@cache
def _kubernetes() -> ModuleType:
    """kubernetes-validate, with its schemas read once: a megabyte for each object otherwise."""
    module = importlib.import_module("kubernetes_validate")
    module.utils.schema_contents = cache(module.utils.schema_contents)
    return module


def _strictly(document: Document) -> Iterator[str]:
    kubernetes_validate = _kubernetes()
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


@cache
def _tool() -> ModuleType:
    """The shared tool, with a faster parser under it and the schemas read once."""
    spec = importlib.util.spec_from_file_location("validate_manifests", SHARED)
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.celpy, "install cel-python, so that rules are judged too"
    read = cache(tool.load_crds)
    tool.yaml = SimpleNamespace(safe_load_all=lambda stream: yaml.load_all(stream, LOADER))  # type: ignore[attr-defined]
    tool.load_crds = lambda paths: read(tuple(paths))  # type: ignore[attr-defined]
    return tool


def ray_problems(documents: Sequence[Document], folder: Path) -> list[str]:
    """What KubeRay's schemas and their rules say of the ray.io kinds. `folder`: a place for a file."""
    file = folder / "judged.yaml"
    file.write_text("\n---\n".join(map(json.dumps, documents)), encoding="utf-8")
    said = io.StringIO()
    with redirect_stdout(said):
        bad = _tool().main([str(file)])
    *lines, last = said.getvalue().splitlines()
    return [line.removeprefix(f"{file}: ") for line in lines] or ([last] if bad else [])


# -- what there is


@dataclass(frozen=True)
class Pod:
    """A pod template and what stands around it."""

    path: str
    template: Document
    around: Document

    @property
    def spec(self) -> Document:
        return dict(self.template["spec"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template.get("metadata", {}).get("labels", {}))

    @property
    def container(self) -> Document:
        return dict(self.spec["containers"][0])

    @property
    def is_worker(self) -> bool:
        return "groupName" in self.around


def clusters(documents: Sequence[Document]) -> list[tuple[str, Document]]:
    """The specs of RayClusters, with the kinds that they stand in."""
    found = []
    for document in documents:
        spec = document.get("spec", {})
        inner = {"RayCluster": spec, "RayService": spec.get("rayClusterConfig"), "RayJob": spec.get("rayClusterSpec")}
        if cluster := inner.get(str(document["kind"])):
            found.append((str(document["kind"]), cluster))
    return found


def pods(documents: Sequence[Document]) -> list[Pod]:
    """Every pod template."""
    found = []
    for kind, cluster in clusters(documents):
        if head := cluster.get("headGroupSpec"):
            found.append(Pod(f"{kind} head", head["template"], head))
        for group in cluster.get("workerGroupSpecs", []):
            found.append(Pod(f"{kind} group {group['groupName']}", group["template"], group))
    for document in documents:
        if template := document.get("spec", {}).get("submitterPodTemplate"):
            found.append(Pod("RayJob submitter", template, document["spec"]))
    return found
