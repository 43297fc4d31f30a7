"""What may be asked for: the series of raytile and metrics of Ray, with the labels that a query may name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import promql_parser as promql

from raytile.series import SERIES

_REPORTER = "dashboard/modules/reporter/reporter_agent.py"
_INGRESS = "serve/_private/request_ingress_metrics.py"
_REPLICA = "serve/_private/replica.py"
_CPP = "dashboard/modules/metrics/dashboards/default_dashboard_panels.py"  # defined in C++, shown there
# Of Ray: the words of the file of the installed Ray that define it, the file, and labels.
RAY: dict[str, tuple[str, str, set[str]]] = {
    "node_cpu_count": ('"node_cpu_count"', _REPORTER, {"ip"}),
    "node_cpu_utilization": ('"node_cpu_utilization"', _REPORTER, {"ip"}),
    "node_mem_used": ('"node_mem_used"', _REPORTER, {"ip"}),
    "node_mem_total": ('"node_mem_total"', _REPORTER, {"ip"}),
    "node_gpus_available": ('"node_gpus_available"', _REPORTER, {"ip"}),
    "node_gpus_utilization": ('"node_gpus_utilization"', _REPORTER, {"ip"}),
    "cluster_active_nodes": ('"cluster_active_nodes"', _REPORTER, {"node_type"}),
    "cluster_pending_nodes": ('"cluster_pending_nodes"', _REPORTER, {"node_type"}),
    "cluster_failed_nodes": ('"cluster_failed_nodes"', _REPORTER, {"node_type"}),
    "actors": ("ray_actors{{", _CPP, {"State"}),
    "serve_num_http_requests_total": ('f"serve_num_{protocol_name}_requests"', _INGRESS, {"status_code"}),
    "serve_num_http_error_requests_total": ('f"serve_num_{protocol_name}_error_requests"', _INGRESS, {"error_code"}),
    "serve_http_request_latency_ms": ('f"serve_{protocol_name}_request_latency_ms"', _INGRESS, {"status_code"}),
    "serve_num_ongoing_http_requests": ('f"serve_num_ongoing_{protocol_name}_requests"', _INGRESS, set()),
    "serve_deployment_request_counter_total": ('"serve_deployment_request_counter"', _REPLICA, {"route"}),
    "serve_replica_processing_queries": ('"serve_replica_processing_queries"', _REPLICA, set()),
    "serve_deployment_queued_queries": ('"serve_deployment_queued_queries"', "serve/_private/router.py", set()),
    "serve_deployment_replica_healthy": (
        '"serve_deployment_replica_healthy"',
        "serve/_private/deployment_state.py",
        {"deployment", "application"},
    ),
}
HISTOGRAMS = {"serve_http_request_latency_ms"} | {name for name, one in SERIES.items() if one.kind == "histogram"}
CLUSTER = {"namespace", "ray_io_cluster"}
"""Labels that whoever scrapes adds."""


@dataclass(frozen=True)
class Asked:
    """A metric that an expression reads, and the labels it names there."""

    name: str
    labels: frozenset[str]
    values: tuple[tuple[str, str], ...]


def labels_of(name: str) -> set[str] | None:
    """The labels of a metric as Prometheus knows it; None: there is no such metric."""
    bare = name.removeprefix("ray_")
    stem = next((bare.removesuffix(end) for end in ("_bucket", "_sum", "_count") if bare.endswith(end)), bare)
    if stem in HISTOGRAMS and bare != stem:
        return {"le"} | (set(SERIES[stem].labels) if stem in SERIES else RAY[stem][2])
    if not name.startswith("ray_") or bare in HISTOGRAMS:
        return None
    return set(SERIES[bare].labels) if bare in SERIES else RAY[bare][2] if bare in RAY else None


def wrong_values(asked: Asked) -> list[str]:
    """Values that an expression matches and that no series of raytile has."""
    series = SERIES.get(asked.name.removeprefix("ray_"))
    listed = series.labels if series else {}
    return [
        one
        for label, value in asked.values
        if listed.get(label)
        for one in value.split("|")
        if one not in listed[label]
    ]


def selectors(expression: str) -> Iterator[Asked]:
    """The metrics that an expression reads. Raises `ValueError` where it does not parse."""
    found: list[promql.VectorSelector] = []

    def visit(part: promql.Expr) -> bool:
        if isinstance(part, promql.MatrixSelector):
            found.append(part.vector_selector)
        elif isinstance(part, promql.VectorSelector):
            found.append(part)
        return True

    promql.walk(promql.parse(expression), visit)
    for one in found:
        matchers = one.matchers.matchers
        yield Asked(
            one.name or "",
            frozenset(each.name for each in matchers),
            tuple((each.name, each.value) for each in matchers),
        )


def grouped(expression: str) -> Iterator[tuple[set[str], set[str]]]:
    """Of each aggregation: the labels it keeps, and the metrics below it."""
    found: list[promql.AggregateExpr] = []

    def visit(part: promql.Expr) -> bool:
        if isinstance(part, promql.AggregateExpr):
            found.append(part)
        return True

    promql.walk(promql.parse(expression), visit)
    for one in found:
        kept = set(one.modifier.labels) if one.modifier else set()
        yield kept, {asked.name for asked in selectors(one.expr.prettify())}


def installed(file: str) -> str:
    """A file of the Ray that is installed."""
    import ray

    return (Path(ray.__file__).parent / file).read_text(encoding="utf-8")
