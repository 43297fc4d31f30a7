"""Small renders for tests: run a request in this process and look at everything that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytile.api import render
from raytile.canvas.canvas import Canvas
from raytile.events import Listener
from raytile.plan.request import RenderRequest


def toy_request(**changes: Any) -> RenderRequest:
    """A picture of the toy model: 600 x 392 pixels, 75 x 49 cells, off every stride; two levels."""
    values: dict[str, Any] = {"prompt": "hello", "width": 600, "height": 392, "model": "toy", "seed": 3, "steps": 4}
    return RenderRequest.parse(**{**values, **changes})


def paint(request: RenderRequest, out: Path, workers: int = 1, *listeners: Listener) -> tuple[Canvas, dict[str, Any]]:
    """Render in this process; the canvas and the run's summary."""
    canvas = render(request, out, workers=workers, in_process=True, listeners=listeners)
    summary = canvas.head().summary
    assert summary is not None
    return canvas, summary


def digests(summary: dict[str, Any]) -> tuple[str, str]:
    return summary["latents_sha256"], summary["pixels_sha256"]
