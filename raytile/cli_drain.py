"""`raytile drain`: what a node does before it is taken away."""

from __future__ import annotations

from typing import Annotated

import typer


def drain(
    *,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", min=1.0, max=86400.0, help="The node will be gone after so long."),
    ] = 90.0,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="ID", help="Another node, by its id.", show_default="the one on this machine"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="The Ray cluster.", show_default="the one that runs here", envvar="RAY_ADDRESS"),
    ] = None,
) -> None:
    """Have renders leave this node before it goes: what a preStop hook or a spot warning calls.

    Tells Ray that nothing new may start here, and returns once no worker of raytile is left, or the time is over. The
    renders go on elsewhere, and do no step again."""
    import time

    from raytile.engine.ray.drain import drain as leave
    from raytile.engine.ray.drain import node_of
    from raytile.engine.ray.draining import Cluster

    cluster = Cluster(address)
    found = node_of(cluster, node)
    left = leave(cluster, found, seconds, time.monotonic, time.sleep)
    if left:
        print(f"node {found} goes with {left} of its workers: their renders fall back on their last snapshot")
    else:
        print(f"node {found} has no worker of raytile any more, and gets none")
