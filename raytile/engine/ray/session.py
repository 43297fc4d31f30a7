"""Which Ray this process talks to, and what a Ray of our own offers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from math import ceil
from typing import Any

from raytile.engine.pool import Crew
from raytile.errors import ClusterError, InvalidRequest, first_line

ALLOWED = ("num_cpus", "num_gpus", "resources", "memory", "label_selector", "accelerator_type")


def worker_options(text: str | None) -> dict[str, Any]:
    """The resources of a worker from the user's JSON, such as {"num_gpus": 0.5}; `InvalidRequest` if it is not."""
    if text is None:
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"worker resources: not JSON ({error}): try '{{\"num_gpus\": 1}}'") from None
    if not isinstance(options, dict):
        raise InvalidRequest("worker resources: must be a JSON object, such as '{\"num_gpus\": 1}'")
    unknown = sorted(set(options) - set(ALLOWED))
    if unknown:
        raise InvalidRequest(f"worker resources: {unknown[0]!r} is none of {', '.join(ALLOWED)}")
    return options


def join(address: str | None, crew: Crew, options: Mapping[str, Any]) -> str | None:
    """Connect this process to Ray, unless it is. What `ray.shutdown` then undoes: "joined" or "started", or None.

    Raises `ClusterError` if no Ray answers at `address`, or the process is connected to another."""
    # What fails is told by the pool; Ray would print it once more, with a traceback, when refs are dropped.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    import ray

    if ray.is_initialized():
        if address not in (None, "auto", "local", ray.get_runtime_context().gcs_address):
            raise ClusterError(f"this process is connected to another Ray than {address}: ray.shutdown() first")
        return None
    wish = address or os.environ.get("RAY_ADDRESS") or "local"
    if wish != "local":
        knock(wish)
    quiet = {"logging_level": "error", "log_to_driver": False}
    try:
        if wish != "local":
            ray.init(address=wish, **quiet)
            return "joined"
        ray.init(address="local", include_dashboard=False, **_slots(crew, options), **quiet)
        return "started"
    except Exception as error:
        where = "Ray does not start on this machine" if wish == "local" else f"no Ray answers at {wish}"
        raise ClusterError(f"{where} ({first_line(error)}): check --address, or use --in-process") from None


def fits(total: Mapping[str, float], options: Mapping[str, Any]) -> int:
    """How many workers with these options have room in `total`, which is all that a cluster has."""
    asked = {"CPU": options.get("num_cpus", 0), "GPU": options.get("num_gpus", 0), **options.get("resources", {})}
    room = [int(total.get(name, 0) / each + 1e-9) for name, each in asked.items() if each]
    return min(room, default=int(total.get("CPU", 0)))


def _slots(crew: Crew, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a Ray of our own offers: room for the crew's least, and no less than this machine has."""
    count = crew.least or 1
    slots: dict[str, Any] = {"num_cpus": max(os.cpu_count() or 1, ceil(count * asked.get("num_cpus", 1)))}
    if "num_gpus" in asked:
        slots["num_gpus"] = ceil(count * asked["num_gpus"])
    if "resources" in asked:
        slots["resources"] = {name: count * each for name, each in asked["resources"].items()}
    return slots


def knock(address: str, fix: str = "check --address, or use --in-process") -> None:
    """Ray itself tries for minutes where nobody listens: ask the port first."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # "auto", which Ray resolves itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray answers at {address} ({error}): {fix}") from None
