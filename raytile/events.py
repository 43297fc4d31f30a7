"""One dataclass per thing that happens in a render. Listeners (progress, logs, metrics) get them; nothing here imports
torch or Ray, so the driver can receive them from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What a worker did and received since it started. Rows are counted by a hook on the network."""

    rows: int = 0
    """Rows that went through the network, padding included."""
    rows_padded: int = 0
    """Of these, rows that only filled up a micro-batch."""
    bytes_received: int = 0
    """Bytes of latents and predictions received from other workers."""
    busy_seconds: float = 0.0
    """Time spent inside calls."""
    peak_rss_bytes: int = 0
    """The most memory the worker's process ever held."""


@dataclass(frozen=True)
class WorkerReady:
    """A worker has loaded its module. `probe` is the digest of a fixed batch on its device (law 2)."""

    worker: int
    node: str
    pid: int
    device: str
    probe: str
    version: str
    peak_rss_bytes: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker died, or a call on it failed; `why` is one line."""

    worker: int
    why: str


@dataclass(frozen=True)
class RenderStarted:
    """Work begins: what the plan foretells. `work`: of each step, the rows its busiest worker computes."""

    canvas: str
    width: int
    height: int
    workers: int
    levels: int
    phases: int
    tiles: int
    work: tuple[int, ...]


@dataclass(frozen=True)
class PhaseDone:
    """Worker `worker` has finished phase number `phase` of the plan; `counts` are its totals so far."""

    worker: int
    phase: int
    counts: Counts


@dataclass(frozen=True)
class StepDone:
    """Every worker has finished a step: step `step` of `steps` of level `level` of `levels`, `done` of all `total`."""

    level: int
    levels: int
    step: int
    steps: int
    done: int
    total: int


@dataclass(frozen=True)
class TileDone:
    """A tile's latents and pixels are on the canvas, with these SHA-256 digests."""

    worker: int
    tile: int
    latents_sha256: str
    pixels_sha256: str
    counts: Counts


@dataclass(frozen=True)
class CancelAsked:
    """Somebody wants the render to stop."""


@dataclass(frozen=True)
class RenderFinished:
    """The canvas is whole."""

    canvas: str
    seconds: float


@dataclass(frozen=True)
class RenderStopped:
    """The render ended without a whole canvas."""

    canvas: str
    why: str


Event = (
    WorkerReady
    | WorkerLost
    | RenderStarted
    | PhaseDone
    | StepDone
    | TileDone
    | CancelAsked
    | RenderFinished
    | RenderStopped
)
Listener = Callable[[Event], None]
