"""What happens to the workers and the canvas of a render, in words: one line an event."""

from __future__ import annotations

from collections.abc import Mapping

from raytile.engine.state import IDLE
from raytile.events import (
    CancelAsked,
    ClaimWaiting,
    Event,
    Regrouped,
    RolledBack,
    StoreTrouble,
    WorkerJoined,
    WorkerLeaving,
    WorkerLeft,
    WorkerLost,
)


def count(number: int, thing: str) -> str:
    """A number of things.

    >>> count(1, "worker"), count(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def news(event: Event, nodes: Mapping[int, str]) -> str | None:
    """The line that tells of this event; None where progress tells enough. `nodes`: where each worker is, if known."""
    if isinstance(event, WorkerLost):
        where = nodes.get(event.worker)
        why = event.why.removeprefix(f"worker {event.worker} is lost").removeprefix(": ")
        return f"worker {event.worker} was lost{f' on {where}' if where else ''}{f': {why}' if why else ''}"
    if isinstance(event, RolledBack):
        again = f"{count(event.steps_redone, 'step')} again" if event.steps_redone else "nothing to do again"
        return f"going on with {count(len(event.members), 'worker')}, {again}"
    if isinstance(event, WorkerJoined):
        where = nodes.get(event.worker)
        return f"worker {event.worker} joined{f' on {where}' if where else ''}: {count(len(event.members), 'worker')}"
    if isinstance(event, WorkerLeaving):
        return f"worker {event.worker} loses its place in {event.seconds:.0f} s: its tiles move to the others"
    if isinstance(event, WorkerLeft) and event.why != IDLE:  # that is how every render ends
        return f"worker {event.worker} left ({event.why}): {count(len(event.members), 'worker')}"
    if isinstance(event, Regrouped) and event.moves:
        return f"{count(event.moves, 'tile')} moved ({event.why})"
    if isinstance(event, ClaimWaiting):
        return f"the canvas is held by {event.owner}: taken over in {event.seconds:.0f} s, unless that shows it lives"
    if isinstance(event, StoreTrouble):
        return f"the canvas cannot be reached ({event.why}): going on while that is possible"
    if isinstance(event, CancelAsked):
        return "asked to stop: the canvas is kept"
    return None
