"""What the state machine tells the driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from raytile.plan.route import Partition


@dataclass(frozen=True)
class Restore:
    """Begin epoch `epoch` at phase `phase` from what is stored of it (from nothing at phase 0)."""

    epoch: int
    phase: int
    partition: Partition


@dataclass(frozen=True)
class Regroup:
    """Begin epoch `epoch` at phase `phase`, not submitted yet, with cells handed over from the epoch before."""

    epoch: int
    phase: int
    before: Partition
    after: Partition
    why: str


@dataclass(frozen=True)
class RunPhase:
    """Submit phase number `phase` on every member. With `save` they save what they own as it is at its start; no phase
    before `whole` will be gone back to."""

    phase: int
    save: bool
    whole: int


@dataclass(frozen=True)
class Abandon:
    """No call of the epochs so far is wanted any more: a member was lost. The render will go on from `phase`; `lag` are
    the steps begun since a later snapshot that was still under way."""

    phase: int
    steps_redone: int
    lag: int
    why: str


@dataclass(frozen=True)
class CommitSnapshot:
    """Every member has stored its tiles at `phase`: say so on the head."""

    phase: int


@dataclass(frozen=True)
class CommitDenoised:
    """All final latents are on the canvas: say so on the head."""


@dataclass(frozen=True)
class DecodeTile:
    """Have `worker` decode and write a tile, or, where it is on the canvas already (`again` false), check it."""

    worker: int
    tile: int
    again: bool


@dataclass(frozen=True)
class Hire:
    """Ask for so many more workers, after `delay` seconds."""

    count: int
    delay: float


@dataclass(frozen=True)
class Release:
    """This worker is not needed any more, or cannot take part: `why` in words."""

    worker: int
    why: str


@dataclass(frozen=True)
class Finish:
    """Every tile is on the canvas: seal it."""


@dataclass(frozen=True)
class Fail:
    """The render cannot go on: say so on the canvas and release the workers."""

    why: str


@dataclass(frozen=True)
class Cancel:
    """The user stopped the render: say so on the canvas and release the workers."""


Instruction = (
    Restore
    | Regroup
    | RunPhase
    | Abandon
    | CommitSnapshot
    | CommitDenoised
    | DecodeTile
    | Hire
    | Release
    | Finish
    | Fail
    | Cancel
)
