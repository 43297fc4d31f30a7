"""The series that a cluster shows Prometheus: names, labels and what their values may be. Dashboards speak of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

OPEN = ("model",)
"""Labels whose values nobody can list; how many there are is bounded all the same."""
PLACE: Mapping[str, tuple[str, ...]] = {"node": (), "slot": ()}
PARTS = ("predict", "wait", "exchange", "decode", "write")
ENDS = ("finished", "failed", "cancelled")


@dataclass(frozen=True)
class Series:
    """`rising`: a counter of a place. It is shown as a gauge, for Ray never forgets a counter, and nodes come and go.
    `labels`: by name the values that there are, none where nobody can list them. `late`: begins when there is cause."""

    kind: Literal["counter", "gauge", "rising", "histogram"]
    words: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    late: bool = False

    def combinations(self) -> Iterator[dict[str, str]]:
        """All the labels that a series of this name can have; none where they cannot be listed."""
        for values in product(*self.labels.values()):
            yield dict(zip(self.labels, values, strict=True))


SERIES: Mapping[str, Series] = {
    "raytile_renders": Series("gauge", "Renders now.", {"state": ("queued", "running", "resting")}),
    "raytile_renders_ended_total": Series("counter", "Renders that have ended.", {"state": ENDS}),
    "raytile_queue_wait_seconds": Series(
        "histogram", "From submission to the first claim.", buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)
    ),
    "raytile_render_seconds": Series(
        "histogram", "From the claim of a render to its end.", {"state": ENDS}, (1, 5, 15, 60, 300, 900, 3600, 14400)
    ),
    "raytile_workers": Series("gauge", "Workers now.", {"state": ("working", "idle", "coming")}),
    "raytile_supervisors": Series("gauge", "Supervisors of services that do their rounds."),
    "raytile_worker_changes_total": Series(
        "counter", "Workers that came and went.", {"kind": ("joined", "left", "lost", "hired")}
    ),
    "raytile_steps_total": Series("counter", "Steps that all workers of a render have finished."),
    "raytile_tiles_total": Series("counter", "Tiles on the canvas."),
    "raytile_pixels_total": Series("counter", "Pixels of these tiles.", {"model": ()}),
    "raytile_evaluations_total": Series(
        "counter", "Rows that went through the network, padding left out.", {"model": ()}
    ),
    "raytile_worker_part_seconds_total": Series("rising", "Where a worker's time went.", {**PLACE, "part": PARTS}),
    "raytile_worker_steps_total": Series("rising", "Steps that a worker has finished.", PLACE),
    "raytile_worker_busy_seconds_total": Series("rising", "Time of a worker inside calls.", PLACE),
    "raytile_worker_seconds_total": Series("rising", "Time of a worker as part of a render.", PLACE),
    "raytile_worker_memory_bytes": Series("gauge", "Peak memory of a worker.", {**PLACE, "kind": ("rss", "device")}),
    "raytile_exchanged_bytes_total": Series("counter", "Latents and predictions that workers received."),
    "raytile_snapshots_total": Series("counter", "Snapshots that a render can go on from."),
    "raytile_snapshot_bytes_total": Series("counter", "Bytes of snapshots."),
    "raytile_snapshot_seconds_total": Series("counter", "Time that storing them took, beside the work."),
    "raytile_rollbacks_total": Series("counter", "Times that a render went back, since workers were lost."),
    "raytile_steps_redone_total": Series("counter", "Steps that were done again for it."),
    "raytile_tiles_moved_total": Series("counter", "Tiles that went to another worker."),
    "raytile_store_errors_total": Series(
        "counter", "Requests to the store that had to be tried again, snapshots and heads that could not be stored."
    ),
    "raytile_cost_total": Series("counter", "Worker hours times their price.", late=True),
}
