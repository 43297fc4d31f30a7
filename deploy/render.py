"""Makes what is made of the chart: `python -m deploy.render`, or `make manifests`.

The example values become plain YAML, by Helm itself in this process (PyPI: helm-python-sdk); the settings of the
service become part of the schema of values."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART, VALUES, PLAIN = HERE / "chart", HERE / "values", HERE / "yaml"
SCHEMA = CHART / "values.schema.json"
NAME, NAMESPACE = "raytile", "raytile"
"""The release and the namespace of the plain YAML."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def examples() -> dict[str, dict[str, Any]]:
    """The example values by name."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(VALUES.glob("*.yaml"))}


@cache
def _loaded(chart: Path) -> Any:
    from helm_python.chart import Chart

    return Chart.load(chart)


def render(values: dict[str, Any], name: str = NAME, namespace: str = NAMESPACE, chart: Path = CHART) -> str:
    """The manifests of a release, as YAML documents. Raises `helm_python.errors.HelmError`."""
    _loaded(chart).validate_schema(values)
    made = _loaded(chart).render(values, name=name, namespace=namespace)
    kept = {path: text.strip() for path, text in sorted(made.items()) if not path.endswith("NOTES.txt")}
    return "\n".join(f"---\n{text.removeprefix('---').strip()}" for text in kept.values() if text) + "\n"


def documents(text: str) -> list[dict[str, Any]]:
    """The objects in YAML documents, empty ones left out."""
    return [document for document in yaml.load_all(text, LOADER) if document]


def plain(name: str, values: dict[str, Any]) -> str:
    """The text of yaml/NAME.yaml."""
    return f"# Rendered from chart/ with values/{name}.yaml by make manifests: change those.\n{render(values)}"


def schema() -> str:
    """The text of the schema of values, with the settings that raytile has. Where to listen is the chart's business,
    and a service that others reach asks for keys."""
    from raytile.serve.settings import Settings

    known = json.loads(SCHEMA.read_text(encoding="utf-8"))
    fields = Settings.model_json_schema()["properties"]
    settings = {name: _plain(field) for name, field in sorted(fields.items()) if name not in ("host", "port")}
    settings["keys"] = {"enum": ["auto", "on"]}
    known["$defs"]["settings"] = {"type": "object", "additionalProperties": False, "properties": settings}
    return json.dumps(known, indent=2) + "\n"


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name not in ("title", "default")}


def main() -> None:
    SCHEMA.write_text(schema(), encoding="utf-8")
    PLAIN.mkdir(exist_ok=True)
    known = examples()
    for path in PLAIN.glob("*.yaml"):
        if path.stem not in known:
            path.unlink()
    for name, values in known.items():
        (PLAIN / f"{name}.yaml").write_text(plain(name, values), encoding="utf-8")


if __name__ == "__main__":
    main()
