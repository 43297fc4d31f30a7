"""`raytile serve` and `raytile keys`: the service, and who may ask it. Everything heavy is imported inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytile.errors import InvalidRequest

if TYPE_CHECKING:
    from raytile.serve.keys import Keys
    from raytile.serve.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings, in YAML or JSON.", show_default=False, envvar="RAYTILE_CONFIG"
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DIR|s3://BUCKET/PREFIX",
        help="Where records and pictures lie.",
        show_default="~/.cache/raytile/service",
    ),
]

keys = typer.Typer(help="API keys of a service.", no_args_is_help=True, rich_markup_mode="markdown")


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Where to listen; off loopback with API keys only.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, show_default="8000")] = None,
    store: Store = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Paint in this process, one picture after the other, without Ray.")
    ] = False,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N|auto", help="The most workers at once.", show_default="auto")
    ] = None,
    config: Config = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="The Ray cluster to use.",
            show_default="a local Ray, started and ended here",
            envvar="RAY_ADDRESS",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the settings are good.")] = False,
) -> None:
    """Paint on demand: an HTTP API, OpenAI's too, and a page to watch.

    Settings come from a file, from variables named RAYTILE_... (such as RAYTILE_MAX_PIXELS) and from these options;
    the last word wins."""
    from raytile.serve.settings import Settings

    most: str | int | None = int(workers) if workers is not None and workers.isdecimal() else workers
    settings = Settings.load(config, host=host, port=port, store=store, max_workers=most)
    told(settings, _keys(settings))
    if check:
        return
    if in_process:
        from raytile.serve.local import run as run_here

        run_here(settings)
    else:
        from raytile.serve.deployment import run

        run(settings, settings.host, settings.port, address)


def told(settings: Settings, keys: Keys) -> None:
    """Say, loudly, who may ask. Raises `InvalidRequest` for a service that everybody may ask from anywhere."""
    from raytile.serve.access import is_loopback

    some, near = keys.any(), is_loopback(settings)
    if settings.keys == "off" and not near:
        raise InvalidRequest(f"keys: off is for loopback only, not for {settings.host}: leave it at auto, and add keys")
    if settings.keys == "off" or (settings.keys == "auto" and near and not some):
        print(
            "WARNING: no API keys: everyone on this machine may paint, see and delete everything here"
            " (raytile keys add NAME makes one)",
            file=sys.stderr,
        )
    elif not some:
        print(
            "WARNING: every request needs an API key, and there is none yet: raytile keys add NAME makes one",
            file=sys.stderr,
        )


@keys.command("add", epilog="**Example:** raytile keys add ci --scope render --scope read")
def add(
    name: Annotated[str, typer.Argument(help="For people: whose key it is.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="What it may do: render, read, admin; give it once for each.",
            show_default="render and read",
        ),
    ] = None,
    store: Store = None,
    config: Config = None,
) -> None:
    """Make a key and print it, this once. The store keeps its hash only."""
    key, text = _at(config, store).add(name, scope or ("render", "read"))
    print(f"{key.id} ({', '.join(key.scopes)}): keep the line below, it is not shown again", file=sys.stderr)
    print(text)


@keys.command("list")
def list_(store: Store = None, config: Config = None) -> None:
    """Show the keys that there are, without their secrets."""
    from datetime import UTC, datetime

    for key in _at(config, store).all():
        made = datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d %H:%M")
        print(f"{key.id}  {made}  {','.join(key.scopes):17}  {ascii(key.name)[1:-1]}")


@keys.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="As raytile keys list shows it.")],
    store: Store = None,
    config: Config = None,
) -> None:
    """Refuse a key from now on; running services know it within seconds."""
    found = _at(config, store)
    if id not in {key.id for key in found.all()}:
        raise InvalidRequest(f"id: there is no key {id[:40]!r}: raytile keys list shows them")
    found.revoke(id)


def _at(config: Path | None, store: str | None) -> Keys:
    from raytile.serve.settings import Settings

    return _keys(Settings.load(config, store=store))


def _keys(settings: Settings) -> Keys:
    import time

    from raytile.serve.desk import open_records
    from raytile.serve.keys import Keys

    return Keys(open_records(settings, time.time).objects, time.time)
