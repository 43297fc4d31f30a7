"""The service: renders on demand over HTTP, and the page to watch them. Ray stays in `deployment` and `cast`.

For Ray Serve's own tools: `raytile.serve:app` is the service as its environment sets it up, `raytile.serve:build` makes
one from arguments."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`app` and `build`, which need Ray, only for those who ask for them."""
    if name not in ("app", "build"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raytile.serve import deployment

    return deployment.build if name == "build" else deployment.build(deployment.Args())
