"""Seamless diffusion pictures of any size: many modules painting at once, listening to each other, on Ray.

`plan` and `render` take a `RenderRequest`; `RaytilePipeline` is for those who know diffusers. Each name is imported
when it is first used, so `import raytile` loads neither torch nor Ray nor zarr."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import raytile.plan  # noqa: F401 (see _PlanRoom)

if TYPE_CHECKING:
    from raytile.api import plan, render
    from raytile.canvas.canvas import Canvas
    from raytile.pipeline import RaytilePipeline
    from raytile.plan.request import RenderRequest

__version__ = "0.1.0"
__all__ = ["Canvas", "RaytilePipeline", "RenderRequest", "__version__", "plan", "render"]

_HOMES = {
    "render": "raytile.api",
    "Canvas": "raytile.canvas.canvas",
    "RaytilePipeline": "raytile.pipeline",
    "RenderRequest": "raytile.plan.request",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raytile' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _PlanRoom(ModuleType):
    """The package `raytile.plan`, which can also be called: `raytile.plan(request)` is `raytile.api.plan`.

    Both have the name, and whoever imports the package sets it on `raytile`; so the package itself answers calls."""

    def __call__(self, request: RenderRequest) -> Any:
        from raytile.api import plan

        return plan(request)


sys.modules["raytile.plan"].__class__ = _PlanRoom
