"""The fleet: what there is, how busy it is, what it makes, what it costs, and what goes wrong with it."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.common import ORANGE, RED, YELLOW, Line, Panel, board, lines, number
from dashboards.promql import gauge, grown, rate, share, zero

NO_PRICE = "no price set"
COST, PIXELS = "ray_raytile_cost_total", "ray_raytile_pixels_total"
NODES = gauge("ray_node_cpu_count", how="count")  # each node has this gauge once
PER_PIXEL = share(grown(COST), grown(PIXELS))


def dashboard() -> Dashboard:
    return board(
        "fleet",
        "Nodes, workers and money: what there is, how busy it is, what it makes.",
        [("Now", _now()), ("Nodes", _nodes()), ("Workers", _workers()), ("Output and cost", _output())],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Nodes",
            "Nodes that report, the head among them. With autoscaling a quiet cluster goes back to its head, or to the"
            " fewest workers that its groups allow; when it does not, see whether warm workers are kept.",
            "none",
            Line(zero(NODES)),
            span=3,
        ),
        number(
            "GPUs",
            "GPUs of all nodes that report.",
            "none",
            Line(zero(gauge("ray_node_gpus_available"))),
            span=3,
        ),
        number("Renders now", "Renders that have workers.", "none", Line(_renders("running")), span=3),
        number(
            "Renders waiting",
            "Renders that nobody has taken up. Some in a burst are normal; if they stay, look at pending demand below:"
            " either no node comes, or the service is as large as it may be.",
            "none",
            Line(_renders("queued")),
            [(1, YELLOW), (20, ORANGE)],
            span=3,
        ),
        number(
            "Evaluations",
            "Network rows a second, padding left out: the speed of the whole fleet. It should grow with the workers"
            " that work; if it does not, see the step's parts on the render dashboard.",
            "ops",
            Line(zero(rate("ray_raytile_evaluations_total"))),
            span=3,
        ),
        number(
            "Megapixels",
            "Finished megapixels a second. Tiles are written at the end of a render, so this comes in waves.",
            "suffix: MP/s",
            Line(zero(f"{rate(PIXELS)} / 1e6")),
            span=3,
            decimals=2,
        ),
        number(
            "Cost per hour",
            "What the workers that are there cost, busy or not (price_per_worker_hour times workers).",
            "none",
            Line(f"{rate(COST)} * 3600"),
            span=3,
            decimals=2,
            nothing=NO_PRICE,
        ),
        number(
            "Cost per megapixel",
            "Of the time range chosen: what workers cost, divided by what was written. Idle workers and work done twice"
            " make it grow; the alert's limit is in alerts.yaml.",
            "none",
            Line(f"{PER_PIXEL} * 1e6"),
            span=3,
            decimals=4,
            nothing=NO_PRICE,
        ),
    ]


def _nodes() -> list[Panel]:
    return [
        lines(
            "Nodes by group",
            "Nodes by group of the autoscaler. Pending ones have been asked for: some minutes are normal for a GPU"
            " node. When they stay, the cloud has none or the quota is used up: kubectl describe pod.",
            "none",
            [
                Line(
                    f"{gauge('ray_cluster_active_nodes', by='node_type')}"
                    f' or on() label_replace({NODES}, "node_type", "nodes", "", "")',
                    "{{node_type}}",
                ),
                Line(zero(gauge("ray_cluster_pending_nodes")), "pending"),
                Line(zero(gauge("ray_cluster_failed_nodes")), "failed lately"),
            ],
            span=8,
        ),
        lines(
            "Pending demand",
            "Workers that were asked for and have no place yet, as raytile and as Ray count them. It vanishes with the"
            " render that asked.",
            "none",
            [
                Line(zero(gauge("ray_raytile_workers", 'state="coming"')), "workers coming"),
                Line(zero(gauge("ray_actors", 'State="PENDING_CREATION"')), "actors without a place"),
            ],
            span=8,
        ),
        lines(
            "CPU by node",
            "Share of a node's cores in use. Workers on GPUs keep about one core each busy; the head should be idle.",
            "percent",
            [Line(gauge("ray_node_cpu_utilization", by="ip", how="max"), "{{ip}}")],
            span=8,
            top=100,
        ),
        lines(
            "GPU by node",
            "Mean use of a node's GPUs. A worker that works keeps its GPU above 80 %; much less means that it waits:"
            " see the step's parts on the render dashboard.",
            "percent",
            [Line(gauge("ray_node_gpus_utilization", by="ip", how="avg"), "{{ip}}")],
            span=8,
            top=100,
            nothing="no GPU on any node",
        ),
        lines(
            "Memory by node",
            "Share of a node's memory in use. Above 95 % Ray ends workers: give the group more memory, or fewer workers"
            " to a node.",
            "percentunit",
            [
                Line(
                    f"{_memory('used')} / {_memory('total')}",
                    "{{ip}}",
                )
            ],
            [(0.85, ORANGE), (0.95, RED)],
            span=8,
            top=1,
        ),
        lines(
            "Memory of workers",
            "The most that a worker of each node has held: its process, and its GPU. raytile plan foretells it; it does"
            " not grow with the picture.",
            "bytes",
            [Line(gauge("ray_raytile_worker_memory_bytes", by="node, kind", how="max"), "{{node}} {{kind}}")],
            span=8,
            nothing="no workers yet",
        ),
    ]


def _workers() -> list[Panel]:
    change = "ray_raytile_worker_changes_total"
    return [
        lines(
            "Workers by state",
            "Working ones paint; idle ones are kept warm for the next render, and cost as much; coming ones were asked"
            " for. Idle for long: lower the service's warm time.",
            "none",
            [
                Line(zero(gauge("ray_raytile_workers", f'state="{state}"')), state)
                for state in ("working", "idle", "coming")
            ],
            span=8,
            stacked=True,
        ),
        lines(
            "Workers that came and went",
            "In each five minutes. Left: told beforehand (drained, preempted, no longer needed), nothing lost. Lost:"
            " gone without a word, their last steps are done again. A few lost on spot nodes are normal.",
            "none",
            [
                Line(zero(grown(change, f'kind="{kind}"', window="5m")), kind)
                for kind in ("hired", "joined", "left", "lost")
            ],
            span=8,
        ),
        lines(
            "Trouble",
            "In each five minutes: renders that went back to a snapshot, steps that were done again, requests to the"
            " store that failed or had to be repeated. All should be 0 on a quiet day.",
            "none",
            [
                Line(zero(grown("ray_raytile_rollbacks_total", window="5m")), "roll-backs"),
                Line(zero(grown("ray_raytile_steps_redone_total", window="5m")), "steps redone"),
                Line(zero(grown("ray_raytile_store_errors_total", window="5m")), "store errors"),
            ],
            [(1, YELLOW)],
            span=8,
        ),
    ]


def _output() -> list[Panel]:
    return [
        lines(
            "Evaluations by model",
            "Network rows a second, padding left out.",
            "ops",
            [Line(rate("ray_raytile_evaluations_total", by="model"), "{{model}}")],
            span=8,
            stacked=True,
            nothing="no render yet",
        ),
        lines(
            "Megapixels by model",
            "Finished megapixels in each five minutes.",
            "suffix: MP",
            [Line(f"{grown(PIXELS, by='model', window='5m')} / 1e6", "{{model}}")],
            span=8,
            stacked=True,
            nothing="no render yet",
        ),
        lines(
            "Cost",
            "Per hour, and of the last hour per megapixel. The first follows the workers that are there; the second"
            " falls when they are busy.",
            "none",
            [
                Line(f"{rate(COST)} * 3600", "per hour"),
                Line(f"{share(grown(COST, window='1h'), grown(PIXELS, window='1h'))} * 1e6", "per megapixel"),
            ],
            span=8,
            nothing=NO_PRICE,
        ),
    ]


def _renders(state: str) -> str:
    return zero(gauge("ray_raytile_renders", f'state="{state}"'))


def _memory(what: str) -> str:
    return gauge(f"ray_node_mem_{what}", by="ip", how="max")
