"""A pool of Ray actors. Messages are ObjectRefs that go from actor to actor; the driver never gets one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from raytile.engine.pool import Outcome, Ref, Setup
from raytile.errors import ClusterError, InvalidRequest, first_line

PLACEMENT_DEADLINE = 60.0
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


class RayPool:
    """`workers` actors (default: one per GPU of the cluster, or per CPU) on the Ray at `address`.

    Uses the Ray this process is connected to, if any; else `address` or RAY_ADDRESS; else starts one here.
    `close` undoes what `connect` did. `options` override what an actor asks for: one GPU where the cluster has any,
    else one CPU."""

    ahead = 4

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        options: Mapping[str, Any] | None = None,
        deadline: float = PLACEMENT_DEADLINE,
    ) -> None:
        self.workers = workers or 0
        self._address = address
        self._options = dict(options or {})
        self._deadline = deadline
        self._actors: list[Any] = []
        self._connected_here = False

    def connect(self) -> None:
        # What fails is told by `wait`; Ray would print it once more, with a traceback, when refs are dropped.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        import ray

        address = self._address or os.environ.get("RAY_ADDRESS") or None
        kind = self._actor_kind(ray)
        if not ray.is_initialized():
            self._init(ray, None if address == "local" else address)
        elif self._address not in (None, "auto", "local", ray.get_runtime_context().gcs_address):
            raise ClusterError(f"this process is connected to another Ray than {self._address}: ray.shutdown() first")
        total = ray.cluster_resources()
        gpus, cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
        if not {"num_cpus", "num_gpus"} & set(self._options):
            self._options["num_gpus" if gpus else "num_cpus"] = 1
            kind = self._actor_kind(ray)
        self.workers = self.workers or max(1, gpus or cpus)
        self._place(ray, kind)

    def _actor_kind(self, ray: Any) -> Any:
        from raytile.engine.ray.actor import WorkerActor

        # A restarted actor would have lost its tiles: none restarts, no call is tried again behind our back.
        options = {"max_restarts": 0, "max_task_retries": 0, "num_cpus": 0, **self._options}
        try:
            return ray.remote(WorkerActor).options(**options)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"worker resources: {error}") from None

    def _init(self, ray: Any, address: str | None) -> None:
        if address is not None:
            _knock(address)
        quiet = {"logging_level": "error", "log_to_driver": False}
        try:
            if address is not None:
                ray.init(address=address, **quiet)
            else:
                ray.init(address="local", include_dashboard=False, **self._slots(), **quiet)
            self._connected_here = True
        except Exception as error:
            where = f"no Ray answers at {address}" if address else "Ray does not start on this machine"
            raise ClusterError(f"{where} ({first_line(error)}): check --address, or use --in-process") from None

    def _slots(self) -> dict[str, Any]:
        """What a Ray of our own offers: room for every worker, and no less than this machine has."""
        count, asked = max(1, self.workers), self._options
        slots: dict[str, Any] = {"num_cpus": max(os.cpu_count() or 1, ceil(count * asked.get("num_cpus", 1)))}
        if "num_gpus" in asked:
            slots["num_gpus"] = ceil(count * asked["num_gpus"])
        if "resources" in asked:
            slots["resources"] = {name: count * each for name, each in asked["resources"].items()}
        return slots

    def _place(self, ray: Any, kind: Any) -> None:
        self._actors = [kind.remote() for _ in range(self.workers)]
        placed = [actor.placed.remote() for actor in self._actors]
        _, missing = ray.wait(placed, num_returns=len(placed), timeout=self._deadline)
        if missing:
            free = {name: n for name, n in ray.available_resources().items() if not name.startswith(("node:", "obj"))}
            raise ClusterError(
                f"{len(missing)} of {self.workers} workers found no place in {self._deadline:.0f} s: each asks for "
                f"{self._options}, free is {free}: ask for fewer --workers or other --worker-resources"
            )
        try:
            ray.get(placed)
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"a worker did not come up ({first_line(_cause(error))}): is raytile installed on every node?"
            ) from None

    def start(self, setup: Setup) -> list[Ref]:
        return [actor.load.remote(number, setup) for number, actor in enumerate(self._actors)]

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        made = self._actors[worker].call.options(num_returns=returns).remote(method, *args)
        return tuple(made) if returns > 1 else (made,)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        import ray

        first, _ = ray.wait(list(refs), num_returns=1, timeout=timeout)
        if not first:
            return []
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        outcomes: list[Outcome] = []
        for ref in ready:
            try:
                outcomes.append(Outcome(ref, ray.get(ref)))
            except ray.exceptions.RayError as error:
                lost = isinstance(error, ray.exceptions.RayActorError)
                outcomes.append(Outcome(ref, error=_cause(error), lost=lost))
        return outcomes

    def close(self) -> None:
        import ray

        actors, self._actors = self._actors, []
        if ray.is_initialized():
            for actor in actors:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(actor)
            if self._connected_here:
                ray.shutdown()
                self._connected_here = False


def _cause(error: BaseException) -> BaseException:
    """What went wrong in the worker, without Ray's wrapping."""
    return getattr(error, "cause", None) or error


def _knock(address: str) -> None:
    """Ray itself tries for minutes where nobody listens: ask the port first."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # "auto" and "local", which Ray resolves itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray answers at {address} ({error}): check --address, or use --in-process") from None
