"""Leaving a node in good order: tell Ray that it goes, and wait until its workers have handed over what they had."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from raytile.errors import InvalidRequest

if TYPE_CHECKING:
    from raytile.engine.ray.draining import Cluster

WORKERS = "WorkerActor"
LOOK = 0.5
"""Seconds between two looks."""


def drain(
    cluster: Cluster, node: str, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> int:
    """Drain `node`; returns how many workers are still on it when none is left, or `seconds` are over.

    Renders move the tiles of these workers to others, and go on; they hear of it within a second. `clock`: seconds
    that only go forward."""
    end = clock() + seconds
    cluster.drain(node, time.time() + seconds, "raytile drain")
    while (left := cluster.actors(node, WORKERS)) and clock() < end:
        sleep(min(LOOK, max(0.0, end - clock())))
    return left


def node_of(cluster: Cluster, wish: str | None = None) -> str:
    """The id of the node to drain: `wish`, or else the one on this machine.

    Raises `InvalidRequest` where there is none, several, or it is the head, which never goes alone."""
    nodes, here = cluster.nodes(), cluster.here
    mine = [node for node, (address, _) in nodes.items() if address == here]
    if wish is not None and wish not in nodes:
        raise InvalidRequest(f"node: {wish} is no living node of the Ray at {cluster.address}: see ray list nodes")
    if wish is None and len(mine) != 1:
        found = f"{len(mine)} nodes of the Ray at {cluster.address} are" if mine else "no node of it is"
        raise InvalidRequest(f"node: {found} at {here}: name one with --node{''.join(f' {node}' for node in mine)}")
    node = wish or mine[0]
    if nodes[node][1]:
        raise InvalidRequest("node: this is the head of the cluster, which is not drained: stop its renders instead")
    return node
