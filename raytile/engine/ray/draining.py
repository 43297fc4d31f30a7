"""Which nodes are about to be taken away, and telling Ray so. It has no public calls for it: the private ones are made
here alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from raytile.engine.ray.session import knock
from raytile.errors import ClusterError, first_line

log = logging.getLogger(__name__)
ASK_EVERY = 1.0
ANSWER = 5.0
"""Seconds that Ray may take to tell of its nodes."""


class Draining:
    """Asks the cluster at most every `ASK_EVERY` seconds of `clock`; says so once if it gets no answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked = -math.inf
        self._told = False
        self._deadlines: Mapping[str, float] = {}

    def deadlines(self) -> Mapping[str, float]:
        """Node ids, each with the time (seconds since 1970) at which the node will be gone; infinity if none is set."""
        now = self._clock()
        if now - self._asked >= ASK_EVERY:
            self._asked = now
            try:
                self._deadlines = ask()
            except Exception as error:
                self._deadlines = {}
                if not self._told:
                    self._told = True
                    log.warning("Ray does not tell which nodes are draining (%s)", first_line(error))
        return self._deadlines


def ask() -> dict[str, float]:
    """The cluster's own answer; raises whatever a changed private interface raises."""
    from ray._private.state import state

    return {node: millis / 1000 if millis else math.inf for node, millis in state.get_draining_nodes().items()}


class Cluster:
    """What draining a node takes of Ray's private interface, without being a driver: `address` is host:port, or None
    for what RAY_ADDRESS or Ray's own notes of this machine say. Raises `ClusterError`."""

    def __init__(self, address: str | None) -> None:
        from ray._private import services

        self._raylet: Any = import_module("ray._raylet")  # its stubs know nothing
        found = address if address and address != "auto" else services.canonicalize_bootstrap_address("auto")
        if not found:
            raise ClusterError("no Ray runs here: name it with --address HOST:PORT, or set RAY_ADDRESS")
        knock(found, "check --address")
        self.address: str = found
        try:
            self._gcs = self._raylet.GcsClient(address=self.address)
        except Exception as error:  # it asks at once, and is told if its token is wrong
            raise ClusterError(f"the Ray at {found} does not take this question ({first_line(error)})") from None

    @property
    def here(self) -> str:
        """The address by which Ray knows this machine: as `ray start` finds it, from the head."""
        from ray._private import services

        return str(services.get_node_ip_address(self.address))

    def nodes(self) -> dict[str, tuple[str, bool]]:
        """The nodes that are alive by their ids: address, and whether it is the head."""
        from ray.core.generated.gcs_pb2 import GcsNodeInfo

        known = self._gcs.get_all_node_info(timeout=ANSWER)
        return {
            key.hex(): (info.node_manager_address, info.is_head_node)
            for key, info in known.items()
            if info.state == GcsNodeInfo.ALIVE
        }

    def exporters(self) -> list[str]:
        """Where the nodes that are alive show their metrics."""
        from ray.core.generated.gcs_pb2 import GcsNodeInfo

        known = self._gcs.get_all_node_info(timeout=ANSWER).values()
        return sorted(
            f"http://{info.node_manager_address}:{info.metrics_export_port}/metrics"
            for info in known
            if info.state == GcsNodeInfo.ALIVE
        )

    def drain(self, node: str, deadline: float, why: str) -> None:
        """Tell Ray that `node` will be taken away at `deadline` (seconds since 1970): nothing new is placed there."""
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, said = self._gcs.drain_node(node, reason, why, int(deadline * 1000))
        if not accepted:
            raise ClusterError(f"Ray does not drain node {node}: {said}")

    def actors(self, node: str, kind: str) -> int:
        """How many actors of the class `kind` live on `node`."""
        from ray._private.state import GlobalState

        state = GlobalState()
        state._initialize_global_state(
            self._raylet.GcsClientOptions.create(
                self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
            )
        )
        try:
            table = state.actor_table(None, None, "ALIVE").values()
        finally:
            state.disconnect()
        return sum(one["ActorClassName"] == kind and one["Address"]["NodeID"] == node for one in table)
