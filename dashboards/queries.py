"""Every expression of the dashboards and of the alerts, for whoever wants to ask a Prometheus for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BOARDS = ("fleet", "render", "service")


@dataclass(frozen=True)
class Query:
    """`where` is the dashboard, or "alerts"; `panel` its title, or the alert's name."""

    where: str
    panel: str
    expression: str


def board(name: str) -> dict[str, Any]:
    """A dashboard as it is committed."""
    read: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return read


def panels(name: str) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard that show something, rows left out."""
    return (panel for panel in board(name)["panels"] if panel["type"] != "row")


def filled(expression: str, rate: str = "1m", reach: str = "1h") -> str:
    """An expression without variables: of all clusters, with the windows that Grafana would fill in."""
    values = {"$__rate_interval": rate, "$__range": reach, "$namespace": ".*", "$cluster": ".*"}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    return expression


def board_queries(rate: str = "1m", reach: str = "1h") -> list[Query]:
    """What the panels ask for."""
    return [
        Query(name, panel["title"], filled(target["expr"], rate, reach))
        for name in BOARDS
        for panel in panels(name)
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    """The rules as Prometheus reads them: alerts, and limits that are recorded for them."""
    import yaml

    groups = yaml.safe_load((HERE / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_queries() -> list[Query]:
    """What the alerts ask for."""
    return [Query("alerts", rule["alert"], rule["expr"]) for rule in rules() if "alert" in rule]
