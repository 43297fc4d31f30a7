"""The actor: a `Worker` in a Ray process. The driver imports this file, so torch comes in with the first `load`."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raytile import __version__
from raytile.engine.pool import Setup
from raytile.engine.ray.verdict import Unfit
from raytile.errors import Abandoned, InvalidModel, WorkerLost
from raytile.events import WorkerReady

if TYPE_CHECKING:
    from raytile.engine.worker import Worker
    from raytile.models.base import Module
    from raytile.plan.plan import Plan

CONTROL, WATCH = "control", "watch"
"""The concurrency groups whose calls are served while another call runs."""

REMEMBERED = 10_000
"""Calls that were called off: more than are ever in flight."""


class WorkerActor:
    """Placed first, loaded second, so that a missing place and a bad model are told apart.

    The `modules` modules that were used last stay loaded from render to render."""

    def __init__(self, modules: int = 1) -> None:
        self._number = -1
        self._token = ""
        self._worker: Worker | None = None
        self._modules: dict[tuple[str, str, str], Module] = {}
        self._kept = modules
        self._task = ""
        self._unwanted: dict[str, None] = {}

    def placed(self) -> dict[str, Any]:
        """Where I am: the fields of a `Place`, as plain values, which every version of raytile understands."""
        import ray

        return {
            "node": ray.get_runtime_context().get_node_id(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "log": os.path.realpath("/proc/self/fd/2"),
            "version": __version__,
        }

    def load(self, number: int, setup: Setup) -> WorkerReady:
        """Become worker `number` of a render."""
        import torch

        from raytile.engine.worker import Worker, pick_device

        self._number, self._token = number, setup.token
        host = socket.gethostname()
        device = pick_device(setup.device)
        if device == "cpu":
            # One thread a worker: two collapse when both cores are busy.
            torch.set_num_threads(1)
        key = (setup.plan.spec.digest, device, setup.plan.request.dtype)
        self._worker = None  # what it held is free before more is loaded
        module = self._modules.pop(key, None)
        if module is None:
            while len(self._modules) >= self._kept:
                del self._modules[next(iter(self._modules))]
            check_model(setup.plan, host)
        worker = Worker(number, setup, module, self._stopped)
        self._worker, self._modules[key] = worker, worker.module
        return worker.ready()

    def watch(self) -> None:
        """Never returns: who waits for it learns of my end."""
        threading.Event().wait()

    def rest(self) -> None:
        """The render is over for me: let go of its tiles; modules stay."""
        self._worker = None

    def call(self, token: str, method: str, *args: Any) -> Any:
        """One method of the worker for the run that `token` names; refs among `args` have been resolved by Ray."""
        import ray

        self._task = ray.get_runtime_context().get_task_id() or ""
        try:
            if token != self._token:  # a call of a driver that is dead, while I work for another
                raise Abandoned("called by a run that is over")
            if self._stopped():
                raise Abandoned("called off before it began")
            return getattr(self._worker, method)(*args)
        except WorkerLost as error:
            raise Unfit(self._number, str(error)) from error
        finally:
            self._unwanted.pop(self._task, None)

    def call_off(self, tasks: Sequence[str]) -> None:
        """These calls, by task id, are not wanted any more. Runs beside `call`, in a thread of its own."""
        self._unwanted.update(dict.fromkeys(tasks))
        for task in list(self._unwanted)[:-REMEMBERED]:  # calls that failed before they came here
            self._unwanted.pop(task, None)

    def _stopped(self) -> bool:
        return self._task in self._unwanted


def check_model(plan: Plan, host: str) -> None:
    """Raise `InvalidModel`, naming this host, unless it has the model that was planned with."""
    from raytile.models import registry

    try:
        found = registry.resolve(plan.request.model).digest
    except InvalidModel as error:
        raise InvalidModel(f"on {host}: {error}") from None
    if found != plan.spec.digest:
        raise InvalidModel(
            f"model {plan.request.model!r} on {host} is not the one that was planned with: "
            "copy the same folder to every node"
        )


def ring(actors: Sequence[Any], tasks: Sequence[Sequence[str]]) -> None:
    """A task that calls off `tasks[k]` on `actors[k]`.

    A process sends its calls on one actor in order, and holds back those that wait for messages with all behind them,
    in any concurrency group: only another process gets through to a worker at once."""
    import ray

    offs = [actor.call_off.options(concurrency_group=CONTROL) for actor in actors]
    sent = [off.remote(list(mine)) for off, mine in zip(offs, tasks, strict=True)]
    ray.wait(sent, num_returns=len(sent), timeout=10)
