"""Workers in this process, one call after the other: the oracle that every other pool must equal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raytile.engine.pool import Outcome, Ref, Setup
from raytile.errors import WorkerLost


@dataclass(frozen=True, eq=False)
class Kept:
    """A value that is there already, or the error in its place; freed with the last reference to it."""

    value: Any = None
    error: BaseException | None = None
    lost: int | None = None
    """The worker whose loss the error is."""


class LocalPool:
    """`workers` workers that share one module. A call is done when it returns, so none is made ahead of time, and there
    is nothing to cancel.

    While it is open, torch runs on one thread, as in any other worker."""

    ahead = 1
    lent = False
    cluster: Literal["none"] = "none"

    def __init__(self, workers: int = 1) -> None:
        self.least = self.most = workers
        self._hired: list[int] = []
        self._next = 0
        self._workers: dict[int, Any] = {}
        self._module: tuple[tuple[str, str, str], Any] | None = None
        self._threads = 0

    def connect(self, useful: int) -> None:  # noqa: ARG002 (a number that was asked for is kept)
        """This process is always there."""
        self.hire(self.most - len(self._hired))

    def workers(self) -> tuple[int, ...]:
        return tuple(self._hired)

    def placed(self) -> tuple[int, ...]:
        return self.workers()

    def hire(self, count: int) -> tuple[int, ...]:
        fresh = tuple(range(self._next, self._next + count))
        self._next += count
        self._hired.extend(fresh)
        return fresh

    def load(self, worker: int, setup: Setup) -> Ref:
        import torch

        from raytile.engine.worker import Worker, pick_device

        if worker not in self._hired:
            return self._lost(worker)
        self._threads = self._threads or torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            key = (setup.plan.spec.digest, pick_device(setup.device), setup.plan.request.dtype)
            module = self._module[1] if self._module and self._module[0] == key else None
            made = Worker(worker, setup, module)
            ready = made.ready()
        except Exception as error:
            return Kept(error=error)
        self._workers[worker], self._module = made, (key, made.module)
        return Kept(ready)

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        if worker not in self._hired:
            return (self._lost(worker),) * returns
        for arg in args:
            if isinstance(arg, Kept) and arg.error is not None:
                return (arg,) * returns
        try:
            plain = [arg.value if isinstance(arg, Kept) else arg for arg in args]
            value = getattr(self._workers[worker], method)(*plain)
        except WorkerLost as error:
            self.release(worker)
            return (Kept(error=error, lost=worker),) * returns
        except Exception as error:
            return (Kept(error=error),) * returns
        return (Kept(value),) if returns == 1 else tuple(Kept(each) for each in value)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:  # noqa: ARG002 (nothing to wait for)
        return [Outcome(ref, ref.value, ref.error, ref.lost) for ref in refs if isinstance(ref, Kept)]

    def cancel(self, refs: Collection[Ref]) -> None:
        """All calls are done."""

    def leaving(self) -> Mapping[int, float]:
        return {}

    def release(self, worker: int) -> None:
        if worker in self._hired:
            self._hired.remove(worker)
        gone = self._workers.pop(worker, None)
        if gone is not None:
            gone.settle()

    def close(self) -> None:
        for worker in tuple(self._hired):
            self.release(worker)
        self._module = None
        if self._threads:
            import torch

            torch.set_num_threads(self._threads)
            self._threads = 0

    def _lost(self, worker: int) -> Kept:
        return Kept(error=WorkerLost(f"worker {worker} is lost"), lost=worker)
