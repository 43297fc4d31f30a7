"""`raytile top`: a cluster in the terminal. Everything heavy is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from raytile.top import Scrape

EVERY = 2.0
"""Seconds between two looks."""
REACH, AT_ONCE = 60.0, 11.0
"""Seconds that rates are of: live, and at the least, for Ray shows new values every ten."""


def top(
    *,
    address: Annotated[
        str | None,
        typer.Option("--address", help="The Ray cluster.", show_default="the one that runs here", envvar="RAY_ADDRESS"),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="http://HOST:PORT/metrics",
            help="Where a node shows its metrics, instead of asking Ray; give it once for each node.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, as it was in the last seconds.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Once, as one JSON document.")] = False,
    over: Annotated[
        float | None,
        typer.Option(
            "--over",
            metavar="S",
            min=0.1,
            help="The seconds that rates are of. Ray shows new values every ten.",
            show_default="60, at once 11",
        ),
    ] = None,
) -> None:
    """Watch a cluster: its renders, where the time of each worker goes and which one is slow, nodes, and cost.

    What Grafana would show, for terminals. It joins no cluster and starts none; Ctrl-C ends it."""
    import contextlib
    import json
    import time

    from raytile.top import figures, read, screen

    urls = _urls(address, url)

    def look() -> Scrape:
        return read(urls(), time.monotonic())

    before = look()
    if once or json_:
        time.sleep(AT_ONCE if over is None else over)
        known = figures(before, look())
    if json_:
        print(json.dumps(known))
        return

    from rich.console import Console

    console = Console(highlight=False)
    if once:
        console.print(screen(known))
        return
    from rich.live import Live

    seen = [before]
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            room = max(1, (console.height - 12) // 2)
            live.update(screen(figures(seen[0], seen[-1]), room), refresh=True)
            time.sleep(EVERY)
            seen.append(look())
            while seen[-1].at - seen[1].at >= (REACH if over is None else over):
                del seen[0]


def _urls(address: str | None, given: list[str] | None) -> Callable[[], list[str]]:
    """What tells where nodes show their metrics now. Raises `InvalidRequest` and `ClusterError`, one line."""
    from raytile.errors import InvalidRequest

    if given:
        for one in given:
            if not one.startswith(("http://", "https://")):
                raise InvalidRequest(f"url: {one} is no address: try http://HOST:8080/metrics")
        return lambda: given
    from raytile.engine.ray.draining import Cluster

    return Cluster(address).exporters
