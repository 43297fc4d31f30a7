"""The service: requests, the queue before the workers, and how renders end."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.common import ORANGE, RED, YELLOW, Line, Panel, board, lines, number
from dashboards.promql import gauge, grown, percentile, rate, share, zero

REQUESTS, ERRORS = "ray_serve_num_http_requests_total", "ray_serve_num_http_error_requests_total"
LATENCY, ENDED = "ray_serve_http_request_latency_ms", "ray_raytile_renders_ended_total"
WAIT, TOOK = "ray_raytile_queue_wait_seconds", "ray_raytile_render_seconds"
FAULT = 'error_code=~"5.."'


def dashboard() -> Dashboard:
    return board(
        "service",
        "Requests to the service, the queue before its workers, and how renders end.",
        [("Now", _now()), ("Requests", _requests()), ("Queue", _queue()), ("Renders", _renders())],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Replicas",
            "Healthy replicas of the app. 0: nobody can ask; see the log of the replicas on Ray's dashboard.",
            "none",
            Line(zero(gauge("ray_serve_deployment_replica_healthy", how="sum"))),
            span=3,
        ),
        number(
            "Supervisors",
            "That do their rounds: they give renders to workers. One for a service; for a while two during an upgrade."
            " 0: nothing is begun; replicas start another one when theirs is gone.",
            "none",
            Line(zero(gauge("ray_raytile_supervisors"))),
            span=3,
        ),
        number(
            "Faults",
            "Share of requests that were answered with a fault of ours (5xx). 0 is normal; a restart gives some.",
            "percentunit",
            Line(zero(share(rate(ERRORS, FAULT), rate(REQUESTS)))),
            [(0.01, ORANGE), (0.05, RED)],
            span=3,
        ),
        number(
            "Waiting",
            "Renders in the queue. It drains as workers come; the service refuses more than its max_queue.",
            "none",
            Line(zero(gauge("ray_raytile_renders", 'state="queued"'))),
            [(1, YELLOW), (20, ORANGE)],
            span=3,
        ),
        number(
            "Wait, 95 of 100",
            "Of the last hour: so long did 95 of 100 renders wait at most until somebody took them up. From zero nodes"
            " it is the time until a node comes.",
            "s",
            Line(percentile(0.95, WAIT, window="1h")),
            [(120, YELLOW), (600, RED)],
            span=3,
            nothing="none lately",
        ),
        number(
            "Warm workers",
            "Workers that have no work and keep their models loaded: the next render begins at once, and they cost as"
            " much as busy ones (settings min_warm, warm_idle_s).",
            "none",
            Line(zero(gauge("ray_raytile_workers", 'state="idle"'))),
            span=3,
        ),
        number(
            "Finished",
            "Renders that were finished in the time range chosen.",
            "none",
            Line(zero(grown(ENDED, 'state="finished"'))),
            span=3,
        ),
        number(
            "Failed",
            "Renders that failed in the time range chosen. Each says why: raytile info CANVAS, or the render's record.",
            "none",
            Line(zero(grown(ENDED, 'state="failed"'))),
            [(1, RED)],
            span=3,
        ),
    ]


def _requests() -> list[Panel]:
    return [
        lines(
            "Requests by status",
            "A second. 429 and 503 are polite refusals with a time to come back; 4xx are the client's.",
            "reqps",
            [Line(rate(REQUESTS, by="status_code"), "{{status_code}}")],
            span=8,
            stacked=True,
            nothing="no request yet",
        ),
        lines(
            "Errors by status",
            "A second. 5xx deserve a look at the replicas' log; many 401 are a wrong or revoked key.",
            "reqps",
            [Line(rate(ERRORS, by="error_code"), "{{error_code}}")],
            span=8,
            nothing="no error yet",
        ),
        lines(
            "Latency",
            "Of all answers. The median should stay under 100 ms, since renders are not waited for. A request that"
            " streams a render's progress, or waits for its picture, lasts as long as the render: so do the upper"
            " percentiles.",
            "ms",
            [Line(percentile(share, LATENCY), f"{share * 100:g} of 100") for share in (0.5, 0.95, 0.99)],
            span=8,
            nothing="no request lately",
        ),
        lines(
            "Requests that are answered now",
            "By the proxies, by the replicas, and those that wait for a replica. Waiting ones mean too few replicas.",
            "none",
            [
                Line(zero(gauge("ray_serve_num_ongoing_http_requests")), "proxies"),
                Line(zero(gauge("ray_serve_replica_processing_queries")), "replicas"),
                Line(zero(gauge("ray_serve_deployment_queued_queries")), "waiting"),
            ],
        ),
        lines(
            "Requests by route",
            "A second, by route and method as Serve counts them in its replicas.",
            "reqps",
            [Line(rate("ray_serve_deployment_request_counter_total", by="route"), "{{route}}")],
            nothing="no request yet",
        ),
    ]


def _queue() -> list[Panel]:
    return [
        lines(
            "Renders by state",
            "Running ones have workers; resting ones gave theirs to others for a while, so that nobody waits for a long"
            " render; queued ones have not begun.",
            "none",
            [
                Line(zero(gauge("ray_raytile_renders", f'state="{state}"')), state)
                for state in ("running", "resting", "queued")
            ],
            stacked=True,
        ),
        lines(
            "Wait in the queue",
            "From submission until somebody took it up, of the last ten minutes. With warm workers it is under a"
            " second; from zero nodes some minutes.",
            "s",
            [Line(percentile(share, WAIT, window="10m"), f"{share * 100:g} of 100") for share in (0.5, 0.95, 0.99)],
            nothing="none lately",
        ),
    ]


def _renders() -> list[Panel]:
    return [
        lines(
            "Ended",
            "Renders in each five minutes, by how they ended. Failed ones are not normal.",
            "none",
            [
                Line(zero(grown(ENDED, f'state="{state}"', window="5m")), state)
                for state in ("finished", "failed", "cancelled")
            ],
            span=8,
        ),
        lines(
            "Seconds of a render",
            "From the claim to a finished picture, of the last hour. It depends on sizes and workers; watch for what"
            " changes.",
            "s",
            [
                Line(percentile(share, TOOK, 'state="finished"', window="1h"), f"{share * 100:g} of 100")
                for share in (0.5, 0.95)
            ],
            span=8,
            nothing="none lately",
        ),
        lines(
            "Workers",
            "Working, idle (warm) and coming. Coming for long while renders wait: no node comes.",
            "none",
            [
                Line(zero(gauge("ray_raytile_workers", f'state="{state}"')), state)
                for state in ("working", "idle", "coming")
            ],
            span=8,
            stacked=True,
        ),
    ]
