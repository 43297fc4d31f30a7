"""What an error of Ray means to a render: which worker is lost, if one is, and in what words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from raytile.errors import Abandoned, WorkerLost, first_line


@dataclass(frozen=True)
class Place:
    """Where a worker runs, by its own account."""

    node: str
    """The id of its node."""
    host: str
    pid: int
    log: str
    """The file that its process writes to, on `host`."""
    version: str
    """Of raytile."""


class Unfit(WorkerLost):
    """Raised in a worker that cannot go on, such as one whose device is gone: its process lives, and has to end."""

    def __init__(self, worker: int, why: str) -> None:
        super().__init__(worker, why)
        self.worker = worker

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class Verdict:
    """Why a call came to nothing. `lost`: the worker that is no more; `kill`: its process may still be there."""

    error: BaseException
    lost: int | None = None
    kill: bool = False


def judge(error: BaseException, called: int, numbers: Mapping[str, int], places: Mapping[int, Place]) -> Verdict:
    """What `error`, met by a call on worker `called`, says. `numbers`: workers by the hex ids of their actors.

    An error travels: a call that takes a result of a failed call fails with the same cause, wrapped by Ray."""
    from ray import exceptions as ray_errors

    wrapped = isinstance(error, ray_errors.RayTaskError)
    cause = (getattr(error, "cause", None) or error) if wrapped else error
    direct = None if wrapped else called
    lost, kill = None, False
    if isinstance(cause, ray_errors.RayActorError):
        lost = numbers.get(cause.actor_id or "", direct)
        # The call is gone, done or not, and nobody knows which: that worker's tiles cannot be trusted any more.
        kill = isinstance(cause, ray_errors.ActorUnavailableError)
    elif isinstance(cause, ray_errors.ObjectLostError):
        # A message went with the node that held it. An object's id begins with its task's, which ends with its actor's.
        lost, kill = numbers.get(cause.object_ref_hex[16:48], direct), True
    elif isinstance(cause, Unfit):
        lost, kill = cause.worker, True
    elif isinstance(
        cause,
        ray_errors.OutOfMemoryError
        | ray_errors.WorkerCrashedError
        | ray_errors.NodeDiedError
        | ray_errors.LocalRayletDiedError,
    ):
        lost, kill = direct, True
    elif not isinstance(cause, ray_errors.TaskCancelledError):
        return Verdict(cause)
    if lost is None:
        return Verdict(Abandoned(f"it waited for a call that was lost ({first_line(cause)})"))
    return Verdict(WorkerLost(_words(lost, cause, places.get(lost))), lost, kill)


def _words(worker: int, cause: BaseException, place: Place | None) -> str:
    where = f"; pid {place.pid} on {place.host}, its log there: {place.log}" if place else ""
    return f"worker {worker} is lost: {_reason(cause)}{where}"


def _reason(cause: BaseException) -> str:
    """The one sentence of Ray's many that says why."""
    from ray import exceptions as ray_errors

    if isinstance(cause, Unfit):
        return str(cause)
    if isinstance(cause, ray_errors.OutOfMemoryError):
        return "out of memory, so Ray ended it"
    if isinstance(cause, ray_errors.ActorUnavailableError):
        return "it cannot be reached"
    if isinstance(cause, ray_errors.ObjectLostError):
        return "a message of it was lost with its node"
    if isinstance(cause, ray_errors.RayActorError):
        if cause.preempted:
            return "its node was taken away"
        found = re.search(r"The actor (?:is dead|died) because (.*?)(?:\. |\.?$)", str(cause), re.MULTILINE)
        if found:
            return found[1]
    return first_line(cause)
