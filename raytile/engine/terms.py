"""On what terms a render runs: where it begins, and how many workers, phases and snapshots it takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """Where a render begins: a fresh one from nothing, another where the head says that it can go on.

    snapshot: the phase to go on from. denoised: every tile's final latents are on the canvas. tiles_done: tiles whose
    pixels are, too. probe: what the devices that began it compute, if that is known."""

    snapshot: int = 0
    denoised: bool = False
    tiles_done: frozenset[int] = frozenset()
    probe: str | None = None


FRESH = Start()


@dataclass(frozen=True)
class Bounds:
    """least, most: workers that a render starts with, and takes in. ahead: phases submitted beyond the slowest member.
    snapshot_every: steps from snapshot to snapshot, 0 for none, None for what their cost allows. keep_idle: workers
    without work are not released, since another render wants them."""

    least: int
    most: int
    ahead: int
    snapshot_every: int | None = None
    keep_idle: bool = False
