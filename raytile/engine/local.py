"""Workers in this process, one call after the other: the oracle that every other pool must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raytile.engine.pool import Outcome, Ref, Setup


@dataclass(frozen=True, eq=False)
class Kept:
    """A value that is there already, or the error in its place; freed with the last reference to it."""

    value: Any = None
    error: BaseException | None = None


class LocalPool:
    """`workers` workers that share one module. A call is done when it returns, so none is made ahead of time.

    While it is open, torch runs on one thread, as in any other worker."""

    ahead = 1

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._workers: list[Any] = []
        self._threads = 0

    def connect(self) -> None:
        """This process is always there."""

    def start(self, setup: Setup) -> list[Ref]:
        import torch

        from raytile.engine.worker import Worker

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for number in range(self.workers):
                shared = self._workers[0].module if self._workers else None
                self._workers.append(Worker(number, setup, shared))
        except Exception as error:
            return [Kept(error=error)] * self.workers
        return [self.call(number, "ready")[0] for number in range(self.workers)]

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        for arg in args:
            if isinstance(arg, Kept) and arg.error is not None:
                return (Kept(error=arg.error),) * returns
        try:
            plain = [arg.value if isinstance(arg, Kept) else arg for arg in args]
            value = getattr(self._workers[worker], method)(*plain)
        except Exception as error:
            return (Kept(error=error),) * returns
        return (Kept(value),) if returns == 1 else tuple(Kept(each) for each in value)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:  # noqa: ARG002 (nothing to wait for)
        return [Outcome(ref, ref.value, ref.error) for ref in refs if isinstance(ref, Kept)]

    def close(self) -> None:
        self._workers.clear()
        if self._threads:
            import torch

            torch.set_num_threads(self._threads)
