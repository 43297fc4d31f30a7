"""Renders the chart with the example values into plain YAML: `python -m deploy.render`, or `make manifests`.

Helm itself does it, in this process (PyPI: helm-python-sdk)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART, VALUES, PLAIN = HERE / "chart", HERE / "values", HERE / "yaml"
NAME, NAMESPACE = "raytile", "raytile"
"""The release and the namespace of the plain YAML."""


def examples() -> dict[str, dict[str, Any]]:
    """The example values by name."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(VALUES.glob("*.yaml"))}


def render(values: dict[str, Any], name: str = NAME, namespace: str = NAMESPACE, chart: Path = CHART) -> str:
    """The manifests of a release, as YAML documents. Raises `helm_python.errors.HelmError`."""
    from helm_python.chart import Chart

    with Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        made = loaded.render(values, name=name, namespace=namespace)
    kept = {path: text.strip() for path, text in sorted(made.items()) if not path.endswith("NOTES.txt")}
    return "\n".join(f"---\n{text.removeprefix('---').strip()}" for text in kept.values() if text) + "\n"


def documents(text: str) -> list[dict[str, Any]]:
    """The objects in YAML documents, empty ones left out."""
    return [document for document in yaml.safe_load_all(text) if document]


def plain(name: str, values: dict[str, Any]) -> str:
    """The text of yaml/NAME.yaml."""
    return f"# Rendered from chart/ with values/{name}.yaml by make manifests: change those.\n{render(values)}"


def main() -> None:
    PLAIN.mkdir(exist_ok=True)
    known = examples()
    for path in PLAIN.glob("*.yaml"):
        if path.stem not in known:
            path.unlink()
    for name, values in known.items():
        (PLAIN / f"{name}.yaml").write_text(plain(name, values), encoding="utf-8")


if __name__ == "__main__":
    main()
