"""The error tree: what a user can put right is a `RaytileError`, shown as one line, never as a traceback."""

from __future__ import annotations


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
