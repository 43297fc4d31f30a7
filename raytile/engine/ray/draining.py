"""Which nodes are about to be taken away. Ray has no public call for it: the private one is asked here alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from raytile.errors import first_line

log = logging.getLogger(__name__)
ASK_EVERY = 1.0


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
