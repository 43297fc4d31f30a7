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
    peak_device_bytes: int = 0
    """The most memory of its GPU; 0 without one."""
    predict_seconds: float = 0.0
    """Of the time inside calls: in the network."""
    exchange_seconds: float = 0.0
    """... packing and unpacking messages, fusing and sampling what they say."""
    decode_seconds: float = 0.0
    """... reading final latents and making pixels of them."""
    write_seconds: float = 0.0
    """... putting them onto the canvas."""
    wait_seconds: float = 0.0
    """Between two calls: their messages, or the driver's word, were still to come."""
    store_errors: int = 0
    """Requests to the store that had to be tried again."""


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
    """A worker's process is gone, or cannot be reached; `why` is one line. The render goes on without it."""

    worker: int
    why: str


@dataclass(frozen=True)
class WorkerHired:
    """One more worker was asked for; it comes when there is a place for it."""

    worker: int


@dataclass(frozen=True)
class WorkerFailed:
    """A call on a worker failed in a way that would repeat itself elsewhere; `why` is one line."""

    worker: int
    why: str


@dataclass(frozen=True)
class WorkerLeaving:
    """A worker's place will be taken away in `seconds`: its tiles have to be elsewhere by then."""

    worker: int
    seconds: float


@dataclass(frozen=True)
class WorkerJoined:
    """A worker that came later is part of the render now."""

    worker: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class WorkerLeft:
    """A worker is part of the render no more and nothing was lost with it: `why` is one line."""

    worker: int
    members: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class WorkerReleased:
    """There is nothing left to do for a worker: its place is free for others."""

    worker: int


@dataclass(frozen=True)
class Regrouped:
    """From phase `phase` on, tiles and predictions are dealt to `members` in another way; nothing is done twice.

    `moves`: tiles that changed their owner."""

    epoch: int
    phase: int
    members: tuple[int, ...]
    moves: int
    why: str


@dataclass(frozen=True)
class RolledBack:
    """Workers were lost: the others go on from phase `phase`, which was stored (or is the beginning).

    `steps_redone`: steps that somebody had begun since; `lag`: of these, those since a later snapshot that was still
    under way to the store; `members`: who goes on, nobody yet where all were lost."""

    epoch: int
    phase: int
    members: tuple[int, ...]
    steps_redone: int
    lag: int
    why: str


@dataclass(frozen=True)
class SnapshotStored:
    """A worker has stored its tiles of epoch `epoch`, as they are at the start of phase `phase`: `bytes` of them in
    `seconds`."""

    worker: int
    epoch: int
    phase: int
    seconds: float
    bytes: int
    error: str | None = None
    """Why it could not, if it could not."""


@dataclass(frozen=True)
class PreviewPart:
    """A worker has written what step `step` (from 1) of level `level` promises for so many of its tiles of epoch
    `epoch`, in `seconds`."""

    worker: int
    epoch: int
    level: int
    step: int
    tiles: int
    seconds: float


@dataclass(frozen=True)
class PreviewStored:
    """What step `step` (from 1) of level `level` promises is on the canvas, of all tiles."""

    level: int
    step: int


@dataclass(frozen=True)
class SnapshotWhole:
    """The head says that a render can go on from phase `phase`."""

    phase: int


@dataclass(frozen=True)
class CanvasTaken:
    """Another process holds the canvas now: `why` names it."""

    why: str


@dataclass(frozen=True)
class ClaimWaiting:
    """The canvas may have a live owner: in `seconds` without a sign of it the canvas is taken over."""

    owner: str
    seconds: float


@dataclass(frozen=True)
class StoreTrouble:
    """The canvas cannot be reached; the render goes on while it can."""

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
    """Worker `worker` has finished phase number `phase` of the plan in epoch `epoch`; `counts` are its totals so far,
    `stored` the snapshots and `shown` the previews that it finished storing meanwhile."""

    worker: int
    epoch: int
    phase: int
    counts: Counts
    stored: tuple[SnapshotStored, ...] = ()
    shown: tuple[PreviewPart, ...] = ()


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
    | WorkerHired
    | WorkerFailed
    | WorkerLeaving
    | WorkerJoined
    | WorkerLeft
    | WorkerReleased
    | Regrouped
    | RolledBack
    | SnapshotWhole
    | PreviewStored
    | ClaimWaiting
    | StoreTrouble
    | CanvasTaken
    | RenderStarted
    | PhaseDone
    | StepDone
    | TileDone
    | CancelAsked
    | RenderFinished
    | RenderStopped
)
Listener = Callable[[Event], None]
