"""`raytile view`: a canvas in the browser. Everything heavy is imported inside."""

from __future__ import annotations

from typing import Annotated

import typer

from raytile.errors import InvalidRequest


def view(
    canvas: Annotated[str, typer.Argument(metavar="CANVAS", help="NAME.zarr or s3://BUCKET/NAME.zarr.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen, on this machine only; 0: any free one.")
    ] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Look at a canvas in the browser, finished or while it is being painted: zoom, move, see how its sides meet.

    Only this machine can look, until Ctrl-C."""
    import asyncio
    import contextlib
    import socket

    import uvicorn

    from raytile.serve.viewapp import make_view_app

    app = make_view_app(canvas)
    try:
        bound = socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise InvalidRequest(f"port: cannot listen at {port} ({error.strerror}): choose another --port") from None
    with contextlib.closing(bound):
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"

        async def serve() -> None:
            serving = asyncio.create_task(server.serve([bound]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.02)
            print(f"{canvas} is shown at {url} (Ctrl-C ends it)", flush=True)
            if browser:
                import webbrowser

                await asyncio.to_thread(webbrowser.open, url)
            await serving

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
