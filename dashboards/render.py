"""A render: how fast it goes, where the time of its workers goes, and which of them is slow."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.common import ORANGE, RED, YELLOW, Line, Panel, board, gauges, lines, number, timeline
from dashboards.promql import STEP, gauge, grown, rate, share, zero

PARTS = ("predict", "wait", "exchange", "decode", "write")
PART, WORKER = "ray_raytile_worker_part_seconds_total", "node, slot"
STEPS = "ray_raytile_worker_steps_total"
BUSY = share(
    rate("ray_raytile_worker_busy_seconds_total", by=WORKER), rate("ray_raytile_worker_seconds_total", by=WORKER)
)
QUIET = "no worker takes steps now"


def dashboard() -> Dashboard:
    return board(
        "render",
        "How fast renders go, where the time goes, and which worker is slow. Of all renders in the clusters chosen.",
        [("Now", _now()), ("Steps by worker", _workers()), ("Where the time goes", _time()), ("Surviving", _kept())],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Steps",
            "Steps a second that all workers of a render have finished, over all renders. 0 while tiles are decoded.",
            "suffix: steps/s",
            Line(zero(rate("ray_raytile_steps_total"))),
            decimals=2,
        ),
        number(
            "Tiles",
            "Tiles a second that were written. They come at the end of a level, so 0 is normal until then.",
            "suffix: tiles/s",
            Line(zero(rate("ray_raytile_tiles_total"))),
            decimals=2,
        ),
        number(
            "Seconds a step",
            "Of a worker's own work, without waiting: the median of all workers.",
            "s",
            Line(f"quantile(0.5, {STEP})"),
            nothing=QUIET,
        ),
        number(
            "Slowest worker",
            "Its own work for a step, as a multiple of the median. Up to 1.3 is normal. Above 2 it holds up its"
            " neighbours: find its lane below, and drain its node if it stays.",
            "suffix: x",
            Line(f"max({STEP}) / quantile(0.5, {STEP})"),
            [(1.3, YELLOW), (2, RED)],
            decimals=2,
            nothing=QUIET,
        ),
        number(
            "Busy share",
            "Of the time that workers were there. A render keeps them above 80 % busy; less means that they wait for"
            " each other, for the store, or for work.",
            "percentunit",
            Line(
                share(rate("ray_raytile_worker_busy_seconds_total"), rate("ray_raytile_worker_seconds_total")),
            ),
            decimals=0,
            nothing="no workers now",
        ),
        number(
            "Workers at work",
            "Workers that paint.",
            "none",
            Line(zero(gauge("ray_raytile_workers", 'state="working"'))),
        ),
    ]


def _workers() -> list[Panel]:
    return [
        timeline(
            "Step timeline: each worker beside the median",
            "A lane for each worker: what a step costs it, as a multiple of the median of all workers. Green is normal."
            " A lane that is red throughout is a slow device or a shared node; red in all lanes of a node is the node;"
            " short red marks are loading and compiling. A lane that ends is a worker that left.",
            "suffix: x",
            Line(f"{STEP} / on() group_left() quantile(0.5, {STEP})", "{{node}} {{slot}}"),
            [(1.3, YELLOW), (1.6, ORANGE), (2, RED)],
            nothing=QUIET,
        ),
        lines(
            "Seconds a step by worker",
            "Of its own work, without waiting. Lines lie close together on equal devices. Shares follow measured speed,"
            " so a slower device gets fewer tiles and comes back to the others within some steps.",
            "s",
            [Line(STEP, "{{node}} {{slot}}")],
            nothing=QUIET,
        ),
        gauges(
            "Busy share by worker",
            "Of the time that it was there. The busiest one is the one that the others wait for.",
            "percentunit",
            Line(BUSY, "{{node}} {{slot}}"),
            top=1,
            nothing="no workers now",
        ),
    ]


def _time() -> list[Panel]:
    step = rate(STEPS)
    return [
        lines(
            "A step by part",
            "Seconds that a worker spends on a step, on average: predicting (the network), waiting for neighbours,"
            " exchanging latents, decoding and writing. Predicting should be nearly all of it. Much waiting: workers of"
            " unequal speed, or too many for so small a picture. Much writing: a slow store.",
            "s",
            [Line(share(rate(PART, f'part="{part}"'), step), part) for part in PARTS],
            stacked=True,
            nothing=QUIET,
        ),
        lines(
            "Waiting by worker",
            "Share of its time that a worker waits for its neighbours. Below 10 % is normal. Where all wait but one,"
            " that one is slow.",
            "percentunit",
            [
                Line(
                    share(rate(PART, 'part="wait"', WORKER), rate("ray_raytile_worker_seconds_total", by=WORKER)),
                    "{{node}} {{slot}}",
                )
            ],
            top=1,
            nothing="no workers now",
        ),
        lines(
            "Steps and tiles",
            "A second. Steps fall after workers were lost, and rise when some have joined.",
            "none",
            [
                Line(zero(rate("ray_raytile_steps_total")), "steps"),
                Line(zero(rate("ray_raytile_tiles_total")), "tiles"),
            ],
            span=8,
        ),
        lines(
            "Exchanged between workers",
            "Latents and predictions received. It grows with the borders between workers, not with the picture.",
            "binBps",
            [Line(zero(rate("ray_raytile_exchanged_bytes_total")), "received")],
            span=8,
        ),
        lines(
            "Memory by worker",
            "The most that it has held: its process, and its device. It does not grow with the picture.",
            "bytes",
            [
                Line(
                    gauge("ray_raytile_worker_memory_bytes", by="node, slot, kind", how="max"),
                    "{{node}} {{slot}} {{kind}}",
                )
            ],
            span=8,
            nothing="no workers now",
        ),
    ]


def _kept() -> list[Panel]:
    snapshots = "ray_raytile_snapshots_total"
    return [
        lines(
            "Snapshots",
            "In each five minutes. They are what a render goes back to, so while one runs they should come steadily.",
            "none",
            [Line(zero(grown(snapshots, window="5m")), "stored")],
            span=8,
        ),
        lines(
            "Bytes of snapshots",
            "A second, to the store, while the work goes on.",
            "binBps",
            [Line(zero(rate("ray_raytile_snapshot_bytes_total")), "bytes")],
            span=8,
        ),
        lines(
            "Seconds a snapshot",
            "Of all workers together, to store one; they paint meanwhile. Much more than usual: the store is slow.",
            "s",
            [
                Line(
                    zero(share(rate("ray_raytile_snapshot_seconds_total", window="5m"), rate(snapshots, window="5m"))),
                    "seconds",
                )
            ],
            span=8,
        ),
        lines(
            "Roll-backs and steps redone",
            "In each five minutes. A lost worker costs a roll-back and the steps since the last whole snapshot."
            " More than a few an hour: too many nodes are taken away, use on-demand ones.",
            "none",
            [
                Line(zero(grown("ray_raytile_rollbacks_total", window="5m")), "roll-backs"),
                Line(zero(grown("ray_raytile_steps_redone_total", window="5m")), "steps redone"),
            ],
        ),
        lines(
            "Tiles moved",
            "In each five minutes: tiles that changed their worker because one came, left, or was slower than thought."
            " No step is done again for it.",
            "none",
            [Line(zero(grown("ray_raytile_tiles_moved_total", window="5m")), "moved")],
        ),
    ]
