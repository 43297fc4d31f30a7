"""Expressions in the words of the dashboards. Each sums over everything that is not asked for: Ray adds labels of its
own (WorkerId, SessionName, ...), and one line a process would bury what there is to see."""

from __future__ import annotations

CHOSEN = 'namespace=~"$namespace", ray_io_cluster=~"$cluster"'
"""What the reader has chosen. Outside of Kubernetes nothing has these labels, and `.*` matches that too."""


def series(name: str, match: str = "") -> str:
    """The series of a metric in the clusters that were chosen, and of these the ones that `match`."""
    return f"{name}{{{CHOSEN}{', ' if match else ''}{match}}}"


def gauge(name: str, match: str = "", by: str = "", how: str = "sum") -> str:
    """A gauge now, summed (or `how` else) over everything but the labels `by`."""
    return f"{how}{_by(by)}({series(name, match)})"


def rate(name: str, match: str = "", by: str = "", window: str = "$__rate_interval") -> str:
    """How much a counter grows in a second."""
    return f"sum{_by(by)}(rate({series(name, match)}[{window}]))"


def grown(name: str, match: str = "", by: str = "", window: str = "$__range") -> str:
    """By how much a counter grew, exactly: `increase` guesses (1.07 renders have failed), and counts nothing for a
    series that begins at its last value, as that of a model whose first render was short."""
    now, before = f"last_over_time({series(name, match)}[{window}])", f"{series(name, match)} offset {window}"
    return f"sum{_by(by)}({now} - ({before} or {now} * 0))"


def percentile(share: float, name: str, match: str = "", by: str = "", window: str = "$__rate_interval") -> str:
    """Of a histogram, the value that `share` of what happened lately stayed below; nothing (not NaN) if nothing did."""
    labels = ", ".join(["le", by] if by else ["le"])
    return f"histogram_quantile({share:g}, {rate(f'{name}_bucket', match, labels, window)}) >= 0"


def zero(expression: str) -> str:
    """0 where there is nothing, for what is counted: nothing counted yet is none."""
    return f"{expression} or on() vector(0)"


def share(part: str, whole: str) -> str:
    """A part of a whole; nothing while the whole is nothing."""
    return f"{part} / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


STEP = share(
    rate("ray_raytile_worker_part_seconds_total", 'part!="wait"', "node, slot"),
    rate("ray_raytile_worker_steps_total", by="node, slot"),
)
"""Seconds of its own work that a worker needs for a step. Waiting is left out: it is the quick ones that wait."""
