"""What `raytile top` shows: the metrics of a cluster, read where its nodes show them, without Prometheus or Grafana."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from statistics import median
from typing import Any
from urllib.request import ProxyHandler, build_opener

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytile.errors import ClusterError, first_line
from raytile.report import size
from raytile.series import ENDS, PARTS, SERIES

SLOW, SLOWISH = 2.0, 1.3
"""Times the median step of all workers, from which on a worker is marked. The first is the alert's, too."""
PEERS = 3
"""Of fewer workers nobody can say which of them is slow."""
PATIENCE = 5.0
LARGEST = 64 * 2**20
"""Bytes of one node's metrics that are read."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scrape:
    """What all nodes showed at a time: by name and labels, those left out that only say who showed it."""

    at: float
    values: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **match: str) -> float | None:
        """The sum of the series of a name that match; None where there is none."""
        wanted = set(match.items())
        found = [value for labels, value in self.values.get(name, {}).items() if wanted.issubset(labels)]
        return sum(found) if found else None

    def each(self, name: str, *labels: str) -> list[tuple[str, ...]]:
        """The values of these labels that the series of a name have, in order."""
        return sorted({tuple(dict(of)[label] for label in labels) for of in self.values.get(name, {})})


def read(urls: Sequence[str], at: float) -> Scrape:
    """What is shown at these addresses, the time being `at`. A node that does not answer is left out.

    Raises `ClusterError`, one line, where none answers, or none knows of raytile."""
    with ThreadPoolExecutor(min(16, len(urls) or 1)) as pool:
        answers = list(pool.map(_get, urls))
    texts = [answer for answer in answers if isinstance(answer, str)]
    if not texts:
        why = answers[0] if answers else "no node is alive"
        raise ClusterError(
            f"no metrics at {urls[0] if urls else 'the cluster'} ({why}): name one with --url, see --help"
        )
    found = parse(texts, at)
    if not any(name.removeprefix("ray_") in SERIES for name in found.values):
        raise ClusterError(
            f"no raytile metrics at {len(texts)} of {len(urls)} nodes yet: they begin some 15 s after the first render"
        )
    return found


def parse(texts: Iterable[str], at: float) -> Scrape:
    """Add up expositions. Raises `ClusterError` for what is none."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
    for text in texts:
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    kept = _kept(sample.name)
                    if kept is not None:
                        labels = tuple(sorted((name, sample.labels.get(name, "")) for name in kept))
                        values[sample.name][labels] += sample.value
        except (ValueError, KeyError, IndexError) as error:
            raise ClusterError(f"no metrics as Prometheus reads them ({first_line(error)}): check --url") from None
    return Scrape(at, values)


_NODE = ("cpu_utilization", "mem_used", "mem_total", "gpus_utilization", "gpus_available")


def _kept(name: str) -> Iterable[str] | None:
    """The labels that matter of a metric; None if it does not."""
    series = SERIES.get(name.removeprefix("ray_"))
    if series is not None:
        return series.labels
    return ("ip",) if name.removeprefix("ray_node_") in _NODE else None


def _get(url: str) -> str | Exception:
    try:  # straight: nodes of a cluster do not lie behind a proxy
        with build_opener(ProxyHandler({})).open(url, timeout=PATIENCE) as answer:
            text: str = answer.read(LARGEST).decode("utf-8", "replace")
            return text
    except (OSError, ValueError, HTTPException) as error:
        return error


def figures(before: Scrape, now: Scrape) -> dict[str, Any]:
    """Plain values for people and JSON: what is, and what happened between two scrapes, a second. What cannot be said
    (no step was taken, no price is set) is None."""
    seconds = now.at - before.at

    def risen(name: str, **match: str) -> float | None:
        after = now.total(name, **match)
        if after is None or seconds <= 0:
            return None
        return max(0.0, after - (before.total(name, **match) or 0.0))  # one that began anew has no rise to tell

    def pace(name: str) -> float | None:
        rise = risen(f"ray_raytile_{name}_total")
        return None if rise is None else rise / seconds

    def count(name: str, **match: str) -> int:
        return int(now.total(f"ray_raytile_{name}", **match) or 0)

    def changes(kind: str) -> int:
        return count("worker_changes_total", kind=kind)

    cost, pixels = pace("cost"), pace("pixels")
    spent, made = now.total("ray_raytile_cost_total"), now.total("ray_raytile_pixels_total")
    return {
        "seconds": seconds,
        "renders": {state: count("renders", state=state) for state in ("running", "resting", "queued")},
        "ended": {state: count("renders_ended_total", state=state) for state in ENDS},
        "workers": {state: count("workers", state=state) for state in ("working", "idle", "coming")},
        "changes": {kind: changes(kind) for kind in ("joined", "left", "lost")},
        "steps_per_second": pace("steps"),
        "tiles_per_second": pace("tiles"),
        "evaluations_per_second": pace("evaluations"),
        "megapixels_per_second": None if pixels is None else pixels / 1e6,
        "bytes_exchanged_per_second": pace("exchanged_bytes"),
        "cost_per_hour": None if cost is None else cost * 3600,
        "cost_per_megapixel": None if spent is None or not made else spent / made * 1e6,
        "snapshots": count("snapshots_total"),
        "rollbacks": count("rollbacks_total"),
        "steps_redone": count("steps_redone_total"),
        "store_errors": count("store_errors_total"),
        "nodes": _nodes(now),
        "places": _places(now, risen),
    }


def _nodes(now: Scrape) -> list[dict[str, Any]]:
    found = []
    for (ip,) in now.each("ray_node_mem_total", "ip"):
        gpus = now.total("ray_node_gpus_available", ip=ip) or 0
        used = now.total("ray_node_gpus_utilization", ip=ip)
        found.append(
            {
                "ip": ip,
                "cpu_percent": now.total("ray_node_cpu_utilization", ip=ip),
                "memory_bytes": now.total("ray_node_mem_used", ip=ip),
                "memory_total_bytes": now.total("ray_node_mem_total", ip=ip),
                "gpus": int(gpus),
                "gpu_percent": used / gpus if used is not None and gpus else None,
            }
        )
    return found


def _places(now: Scrape, risen: Callable[..., float | None]) -> list[dict[str, Any]]:
    """Each worker's place, the slow ones first: seconds of its own work for a step (waiting is left out, for it is the
    quick ones that wait), and what share of its time went where."""
    found: list[dict[str, Any]] = []
    # Which goes with the worker; its totals stay for a while.
    for node, slot in now.each("ray_raytile_worker_memory_bytes", "node", "slot"):
        at = {"node": node, "slot": slot}
        parts = {part: risen("ray_raytile_worker_part_seconds_total", part=part, **at) or 0.0 for part in PARTS}
        steps, spent = risen("ray_raytile_worker_steps_total", **at), sum(parts.values())
        busy, there = (risen(f"ray_raytile_worker_{what}_total", **at) for what in ("busy_seconds", "seconds"))
        found.append(
            {
                **at,
                "step_seconds": (spent - parts["wait"]) / steps if steps else None,
                "parts": {part: seconds / spent for part, seconds in parts.items()} if spent else None,
                "busy": None if busy is None or not there else min(1.0, busy / there),
                "rss_bytes": now.total("ray_raytile_worker_memory_bytes", kind="rss", **at),
                "device_bytes": now.total("ray_raytile_worker_memory_bytes", kind="device", **at) or None,
            }
        )
    each = [one["step_seconds"] for one in found if one["step_seconds"]]
    usual = median(each) if len(each) >= PEERS else None
    for one in found:
        one["times_median"] = one["step_seconds"] / usual if usual and one["step_seconds"] else None
        one["slow"] = (one["times_median"] or 0) >= SLOW
    return sorted(found, key=lambda one: (not one["slow"], one["node"], len(one["slot"]), one["slot"]))


def screen(known: Mapping[str, Any], shown: int | None = None) -> RenderableType:
    """The figures as tables: at most `shown` workers and nodes each."""
    nodes, places = known["nodes"], known["places"]
    head = Table.grid(padding=(0, 2))
    head.add_column(style="bold")
    renders, ended, workers, changes = (known[name] for name in ("renders", "ended", "workers", "changes"))
    head.add_row("renders", f"{_listed(renders)}; so far {_listed(ended)}")
    head.add_row("workers", f"{_listed(workers)}; so far {_listed(changes)}")
    head.add_row(
        "speed",
        f"{_figure(known['evaluations_per_second'])} evaluations/s, {_figure(known['steps_per_second'])} steps/s, "
        f"{_figure(known['megapixels_per_second'])} MP/s, {size(known['bytes_exchanged_per_second'] or 0)}/s exchanged",
    )
    cost = "no price set (price_per_worker_hour)"
    if known["cost_per_hour"] is not None:
        cost = f"{_figure(known['cost_per_hour'])} an hour, {_figure(known['cost_per_megapixel'])} a megapixel"
    head.add_row("cost", cost)
    names = {"rollbacks": "roll-backs", "steps_redone": "steps redone", "store_errors": "store errors"}
    trouble = {words: known[name] for name, words in names.items()}
    style = "red" if known["store_errors"] else ""
    head.add_row("so far", Text(f"{known['snapshots']} snapshots, {_listed(trouble)}", style=style))
    blocks: list[RenderableType] = [head, Text(), _place_table(places[:shown])]
    if shown is not None and len(places) > shown:
        blocks.append(Text(f"and {len(places) - shown} workers more"))
    blocks += [Text(), _node_table(nodes[:shown])]
    if shown is not None and len(nodes) > shown:
        blocks.append(Text(f"and {len(nodes) - shown} nodes more"))
    return Group(*blocks)


SHORT = {"predict": "pred", "exchange": "exch", "decode": "dec"}
NAME = 14
"""Characters of a worker's node; pods differ in the last ones."""


def _place_table(places: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not places:
        return Text("no worker is part of a render now")
    kinds = {"rss": "memory"} | ({"device": "GPU"} if any(one["device_bytes"] for one in places) else {})
    parts = [SHORT.get(part, part) for part in PARTS]
    table = _table("worker on", "slot", "step", "x med", "busy", *parts, *kinds.values())
    for one in places:
        node, times, shares = one["node"], one["times_median"] or 0, one["parts"] or {}
        table.add_row(
            ("! " if one["slow"] else "") + (node if len(node) <= NAME else f"…{node[1 - NAME :]}"),
            one["slot"],
            "-" if one["step_seconds"] is None else f"{one['step_seconds']:.3g} s",
            f"{times:.2f}" if times else "-",
            _percent(one["busy"]),
            *(_percent(shares.get(part)) for part in PARTS),
            *(size(one[f"{kind}_bytes"] or 0) for kind in kinds),
            style="bold red" if one["slow"] else "yellow" if times >= SLOWISH else "",
        )
    slow = Text(f"! slow: a step costs it {SLOW:g} times the median or more", style="red")
    return Group(table, slow) if any(one["slow"] for one in places) else table


def _node_table(nodes: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = _table("node", "CPU", "memory", "of", "GPUs", "busy")
    for one in nodes:
        table.add_row(
            one["ip"],
            _percent(one["cpu_percent"], 1),
            size(one["memory_bytes"] or 0),
            size(one["memory_total_bytes"] or 0),
            str(one["gpus"]),
            _percent(one["gpu_percent"], 1),
        )
    return table


def _table(first: str, *heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent(value: float | None, of: int = 100) -> str:
    return "-" if value is None else f"{value * of:.0f}%"
