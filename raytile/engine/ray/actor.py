"""The actor: a `Worker` in a Ray process. The driver imports this file, so torch comes in with the first `load`."""

from __future__ import annotations

import os
from typing import Any

from raytile.engine.pool import Setup
from raytile.events import WorkerReady


class WorkerActor:
    """Placed first, loaded second, so that a missing place and a bad model are told apart."""

    def placed(self) -> str:
        """The node I am on."""
        return os.uname().nodename

    def load(self, number: int, setup: Setup) -> WorkerReady:
        import torch

        from raytile.engine.worker import Worker, pick_device

        if pick_device(setup.device) == "cpu":
            # One thread a worker: two collapse when both cores are busy.
            torch.set_num_threads(1)
        self._worker = Worker(number, setup)
        return self._worker.ready()

    def call(self, method: str, *args: Any) -> Any:
        """One method of the worker; refs among `args` have been resolved by Ray."""
        return getattr(self._worker, method)(*args)
