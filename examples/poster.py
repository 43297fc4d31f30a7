"""Paint a picture from Python, watch it grow, and take pixels out of it.

    python examples/poster.py [FOLDER] [MODEL]

With the model `toy` it takes a second; leave it out to paint with the built-in `terra`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import raytile
from raytile.events import Event, StepDone


def show(event: Event) -> None:
    """A listener: called with everything that happens in the render."""
    if isinstance(event, StepDone):
        print(f"step {event.done} of {event.total}")


def paint(folder: Path, model: str) -> Path:
    """Paint a small world whose left and right sides meet, and save its middle; returns the picture's path."""
    from PIL import Image

    request = raytile.RenderRequest(prompt="painted earth, islands", width=768, height=384, wrap="x", model=model)
    plan = raytile.plan(request)
    print(f"{len(plan.levels)} levels, the last in {plan.tiling.count} tiles")
    # Without in_process=True the same picture is painted by Ray actors, bit for bit.
    canvas = raytile.render(request, folder / "poster.zarr", in_process=True, overwrite=True, listeners=[show])
    middle = canvas.image[:, 92:292, 184:584]  # reads only the tiles it needs
    file = folder / "poster-middle.png"
    Image.fromarray(middle.transpose(1, 2, 0)).save(file)
    return file


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    print(paint(where, sys.argv[2] if len(sys.argv) > 2 else "terra"))
