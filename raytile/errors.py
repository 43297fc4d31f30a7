"""The error tree: what a user can put right is a `RaytileError`, shown as one line, never as a traceback."""

from __future__ import annotations

from reprlib import Repr

SHOWN = 60
"""Characters of a wrong value that a message repeats."""


class RaytileError(Exception):
    """Base of every error raytile raises on purpose; the message names the fix. `exit_code` is the CLI's."""

    exit_code = 1


class InvalidRequest(RaytileError):
    """The request cannot be rendered as it stands; found before any work."""

    exit_code = 2


class InvalidModel(RaytileError):
    """A model folder is missing, incomplete, or of a kind raytile does not load."""

    exit_code = 2


class CanvasError(RaytileError):
    """The canvas cannot be created, read or written where it was asked for."""

    exit_code = 2


class ClusterError(RaytileError):
    """Ray cannot be reached, or cannot place the workers."""

    exit_code = 2


class WorkerLost(RaytileError):
    """A worker died or cannot be reached any more."""


class Abandoned(RaytileError):
    """A call was given up because nobody wants what it would do any more."""


class RenderFailed(RaytileError):
    """The render ended without a picture; the canvas tells how far it came."""


class RenderCancelled(RaytileError):
    """The user stopped the render; the canvas tells how far it came."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """An error in one line: its own words if it is one of ours, else its kind and the first line of what it says."""
    text = str(error).strip().split("\n", 1)[0]
    return text if isinstance(error, RaytileError) else f"{type(error).__name__}: {text}".rstrip(": ")


def shown(value: object) -> str:
    """A wrong value as a message repeats it: short, and soon there however much it holds (YAML's aliases make much)."""
    text = repr(value[: SHOWN + 1]) if isinstance(value, str) else _SHORT.repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class _Short(Repr):
    """Lists as long as can be shown, but not deep, and integers of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxlong = self.maxother = SHOWN

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 (`reprlib` calls it so)
        return repr(x) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()
