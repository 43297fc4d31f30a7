"""What is taken in: how large a picture may be, and how much may wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.serve.errors import Busy, Unprocessable
from raytile.serve.ledger import Ledger
from raytile.serve.promises import Promises
from raytile.serve.settings import Settings

MAX_TILES = 2**16
PROMISED = 64
"""Places that are promised at once, where a queue holds fewer."""


def check_request(request: RenderRequest, settings: Settings) -> None:
    """Before any planning. Raises `Unprocessable`."""
    for name, side in (("width", request.width), ("height", request.height)):
        if side > settings.max_side:
            raise Unprocessable(f"{name}: at most {settings.max_side} pixels here (got {side})", name)
    pixels = request.width * request.height
    if pixels > settings.max_pixels:
        raise Unprocessable(
            f"size: at most {settings.max_pixels} pixels here, {request.width}x{request.height} are {pixels}", "size"
        )
    for name, shapes in (("regions", request.regions), ("repaint", request.repaint)):
        if len(shapes) > settings.max_regions:
            raise Unprocessable(f"{name}: at most {settings.max_regions} here (got {len(shapes)})", name)


def check_plan(plan: Plan, settings: Settings) -> None:
    """Before it is kept. Raises `Unprocessable`."""
    if plan.steps > settings.max_steps:
        raise Unprocessable(f"steps: at most {settings.max_steps} here (got {plan.steps})", "steps")
    if plan.tiling.count > MAX_TILES:
        raise Unprocessable(f"tile: makes {plan.tiling.count} tiles, at most {MAX_TILES}: choose larger ones", "tile")


class Admission:
    """Who may come into the queue: not more in all than it holds, nor more of one owner. Thread-safe."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        self._lock = threading.Lock()
        self._of_all = Promises(max(PROMISED, settings.max_queue))
        self._coming = Counter[str]()
        self._of_owners: dict[str, Promises] = {}

    @contextmanager
    def place(self, owner: str, name: str | None, now: float, running: int) -> Iterator[None]:
        """Let one more render of `owner` in; `name` is the Idempotency-Key, if there is one. Its place is taken from
        the beginning, and free again at the end unless the ledger knows the render by then. Raises `Busy`, with the
        seconds after which there will be a place."""
        self._admit(owner, name, now, running)
        try:
            yield
        finally:
            with self._lock:
                self._coming[owner] -= 1

    def _admit(self, owner: str, name: str | None, now: float, running: int) -> None:
        most, here = self._settings.max_renders_per_key, self._settings.max_queue
        waiting = self._ledger.waiting()  # these look at the store, so before the lock
        slots = self._ledger.slot(owner, running), self._ledger.slot(None, running)
        there = sum(each.owner == owner for each in waiting.values())
        whole = None if name is None else f"{owner} {name}"
        with self._lock:
            mine, all_ = there + self._coming[owner], len(waiting) + self._coming.total()
            promises = self._of_owners.setdefault(owner, Promises(max(PROMISED, most)))
            if not promises.open_to(now, name, mine, most):
                words = f"{mine} renders of this key have not ended, at most {most} may: come again later"
                raise Busy(words, retry_after=promises.refuse(now, name, slots[0]))
            if not self._of_all.open_to(now, whole, all_, here):
                wait = self._of_all.refuse(now, whole, slots[1])
                raise Busy("the queue is full: come again later", retry_after=wait)
            promises.enter(now, name)
            self._of_all.enter(now, whole)
            self._coming[owner] += 1
