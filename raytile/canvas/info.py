"""What a canvas says of itself, for `raytile info`."""

from __future__ import annotations

from typing import Any

from raytile.canvas.canvas import Canvas


def describe(canvas: Canvas) -> dict[str, Any]:
    """Plain values for people and JSON: size, state, progress, what was asked for, tiles, digests, bytes stored.

    `tile` is in pixels; `latents` is (channels, rows, columns); digests are None until the run has finished."""
    head, layout = canvas.head(), canvas.layout
    summary = head.summary or {}
    return {
        "path": canvas.path,
        "width": layout.width,
        "height": layout.height,
        "megapixels": layout.width * layout.height / 1e6,
        "state": head.state,
        "error": head.error,
        "level": head.level,
        "levels": head.levels,
        "step": head.step,
        "steps": head.steps,
        "tiles_done": head.done,
        "tiles_total": head.tiles_total,
        "tile": layout.tile,
        "tile_grid": (layout.tile_columns, layout.tile_rows),
        "latents": layout.latents_shape,
        "model": head.model.name,
        "model_digest": head.model.digest,
        "prompt": head.request.prompt,
        "negative": head.request.negative,
        "seed": head.request.seed,
        "request": head.request.model_dump(mode="json"),
        "plan_hash": head.plan_hash,
        "device_digest": head.device_digest,
        "versions": dict(head.versions),
        "owner": head.owner.model_dump(),
        "claims": head.claims,
        "workers": head.workers,
        "snapshot": head.snapshot,
        "denoised": head.denoised,
        "cancel_asked": head.cancel_asked,
        "created": head.created,
        "updated": head.updated,
        "latents_sha256": summary.get("latents_sha256"),
        "pixels_sha256": summary.get("pixels_sha256"),
        "summary": head.summary,
        "bytes_on_disk": canvas.bytes_stored(),
    }
