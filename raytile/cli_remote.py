"""The commands that ask a service: raytile remote render, status, list, cancel, download. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raytile.cli_options import Json, Overwrite, Quiet, TellOptions, option, spread
from raytile.cli_picture import PictureOptions, Prompt, SceneOptions, Size
from raytile.errors import InvalidRequest, RenderCancelled

if TYPE_CHECKING:
    from rich.console import Console

    from raytile.remote import Remote

SERVICE = "Service"
PAINTED = 0.92
"""The share of a render that is painting; the rest is writing tiles."""
Url = Annotated[
    str, option(SERVICE, "--url", "Where the service is.", envvar="RAYTILE_URL", metavar="URL", show_envvar=True)
]
Key = Annotated[
    str | None,
    option(
        SERVICE,
        "--key",
        "The API key; better in the environment, where others do not see it.",
        envvar="RAYTILE_KEY",
        metavar="KEY",
        show_default=False,
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A render of the service.", show_default=False)]
Priority = Annotated[
    int, option(SERVICE, "--priority", "Which of your renders goes first.", min=-10, max=10, metavar="-10..10")
]
Detach = Annotated[bool, option(SERVICE, "--detach", "Ask for it, print its id, and do not wait.")]
Picture = Annotated[
    Path | None,
    option("Output", "--png", "Save the finished picture: PNG, JPEG, WebP or TIFF by its ending.", metavar="FILE.png"),
]

app = typer.Typer(help="Ask a service to paint (see raytile serve).", no_args_is_help=True, rich_markup_mode="markdown")


@dataclass(frozen=True)
class ServiceOptions:
    """Which service, and as whom."""

    url: Url = "http://127.0.0.1:8000"
    key: Key = None

    def remote(self, console: Console) -> Remote:
        from raytile.remote import LOOPBACK, Remote

        if self.key and self.url.startswith("http://") and not LOOPBACK.match(self.url):
            console.print("warning: the key goes over the network unencrypted: use https", markup=False)
        return Remote(self.url, self.key, news=lambda line: console.print(line, markup=False, soft_wrap=True))


@app.command(epilog='**Example:** raytile remote render "islands" --size 4096x2048 --wrap x --png islands.png')
@spread
def render(
    *,
    prompt: Prompt = None,
    size: Size = None,
    service: ServiceOptions,
    priority: Priority = 0,
    detach: Detach = False,
    begin: SceneOptions,
    picture: PictureOptions,
    png: Picture = None,
    overwrite: Overwrite = False,
    tell: TellOptions,
) -> None:
    """Paint PROMPT on the service.

    Files of --source, --control and of masks are sent there; --source also takes the ID of a render. Ctrl-C stops the
    watching, not the painting: raytile remote cancel does that."""
    from raytile.remote import check_target
    from raytile.scenes import settle

    if png is not None:
        check_target(png, overwrite)
    console = _console(tell.quiet)
    remote = service.remote(console)
    layers = begin.layers(picture, prompt=prompt, size=size)
    request = settle(*layers)
    said = {name for layer in layers for name in layer.values if name in type(request).model_fields}
    wish = remote.wish(request, said)
    if priority:
        wish["priority"] = priority
    id = str(remote.submit(wish)["id"])
    if detach:
        print(json.dumps({"id": id}) if tell.json else id, flush=True)
        return
    console.print(f"{id} on {remote.url}", markup=False, soft_wrap=True)
    _watch(remote, id, console)
    found = remote.ended(id)
    if png is not None:
        remote.download(id, png, overwrite)
    if tell.json:
        print(json.dumps(found), flush=True)
    else:
        console.print(_line(found) + (f": {png}" if png is not None else ""), markup=False, soft_wrap=True)


@app.command()
@spread
def status(*, id: Id, service: ServiceOptions, watch: Annotated[
    bool, option("Output", "--watch", "Go on until it has ended.")
] = False, json_: Json = False) -> None:  # fmt: skip
    """Say how far a render is."""
    remote = service.remote(_console())
    if watch:
        _watch(remote, _id(id), _console())
    found = remote.ask("GET", f"/v1/renders/{_id(id)}")
    print(json.dumps(found) if json_ else _line(found))


@app.command("list")
@spread
def list_(*, service: ServiceOptions, limit: Annotated[
    int, option("Output", "--limit", "At most so many, the newest.", min=1, max=1000)
] = 20, json_: Json = False) -> None:  # fmt: skip
    """List your renders, the newest first."""
    remote = service.remote(_console())
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        asked = {"limit": min(100, limit - len(found)), **({"after": after} if after else {})}
        page = remote.ask("GET", "/v1/renders", params=asked)
        found += page.get("data", [])
        if not page.get("has_more") or not page.get("data"):
            break
        after = str(page["data"][-1]["id"])
    if json_:
        print(json.dumps(found))
        return
    for one in found:
        print(_line(one))


@app.command()
@spread
def cancel(*, id: Id, service: ServiceOptions) -> None:
    """Stop a render, or take it out of the queue."""
    found = service.remote(_console()).ask("POST", f"/v1/renders/{_id(id)}/cancel")
    print(_line(found))


@app.command(epilog="**Example:** raytile remote download ID planet.png")
@spread
def download(
    *,
    id: Id,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.png", help="PNG, JPEG, WebP or TIFF by its ending.", show_default=False)
    ],
    service: ServiceOptions,
    overwrite: Overwrite = False,
    partial: Annotated[bool, option("Output", "--partial", "Also of a render that is not finished.")] = False,
    quiet: Quiet = False,
) -> None:
    """Save the picture of a render."""
    console = _console(quiet)
    size = service.remote(console).download(_id(id), file, overwrite, partial)
    console.print(f"{file}: {size / 2**20:.1f} MB", markup=False, soft_wrap=True)


def _watch(remote: Remote, id: str, console: Console) -> None:
    """Show how a render comes on, until it has ended."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:>3.0f} %")
    shown, tiles, done = "", 0, 0
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("asked", total=1.0)
            for event in remote.events(id):
                name, data = event["event"], event["data"]
                line, share = name, None
                if name == "started":
                    tiles, line = int(data.get("tiles", 0)), "painting"
                elif name == "step":
                    share = data["done"] / max(1, data["total"]) * PAINTED
                    level = f"level {data['level'] + 1} of {data['levels']}, " if data["levels"] > 1 else ""
                    line = f"{level}step {data['step']} of {data['steps']}"
                elif name == "tile":
                    done += len(data["tiles"])
                    share, line = PAINTED + (1 - PAINTED) * done / max(1, tiles, done), f"tile {done} of {tiles or '?'}"
                elif name == "worker":
                    line = f"{data['workers']} workers: one {data['what']}"
                elif name == "preview":
                    continue
                bar.update(task, description=line, **({} if share is None else {"completed": share}))
                if not console.is_terminal and line != shown:
                    console.print(line, markup=False, soft_wrap=True)
                shown = line
    except KeyboardInterrupt:
        raise RenderCancelled(
            f"not watched any more; the service paints on: raytile remote status {id}, or cancel {id}"
        ) from None


def _line(found: dict[str, Any]) -> str:
    """A render in one line."""
    size = f"{found.get('width')}x{found.get('height')}"
    words = " ".join(str((found.get("request") or {}).get("prompt", "")).split())[:60]
    words = "".join(letter if letter.isprintable() else "?" for letter in words)  # nothing steers the terminal
    return "  ".join(part for part in (str(found.get("id")), str(found.get("state")), size, words) if part)


def _id(text: str) -> str:
    from raytile.remote import RENDER

    if not RENDER.fullmatch(text):
        raise InvalidRequest(f"id: {text[:60]!r} is none: raytile remote list shows yours")
    return text


def _console(quiet: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False)
