"""Ctrl-C and SIGTERM while a render runs: noted, and heeded between events, so that no commit is torn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Within the `with` block the first SIGINT or SIGTERM only sets `asked`; a second raises KeyboardInterrupt.

    Outside the main thread, where Python lets nobody handle signals, there is only `stop`, which says whether the
    caller wants the render to end."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self._signalled, self._stop = False, stop
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether the render shall end."""
        return self._signalled or self._stop()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heed) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _heed(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the form of a signal handler)
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
