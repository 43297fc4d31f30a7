"""`raytile train`: trains the built-in model stage by stage; every stage goes on where it was stopped."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", help="Train the built-in model."
)


class Stage(StrEnum):
    """The stages, in their order."""

    restore = "restore"
    autoencoder = "autoencoder"
    decoder = "decoder"
    bank = "bank"
    denoiser = "denoiser"
    decay = "decay"
    release = "release"
    sheet = "sheet"
    control = "control"
    copies = "copies"
    preview = "preview"


@app.callback()
def main() -> None:
    """Train the built-in model."""


@app.command()
def terra(
    stage: Annotated[Stage, typer.Option(help="what to do; each needs the ones before it")] = Stage.autoencoder,
    minutes: Annotated[float, typer.Option(min=0.0, help="stop after this long, state saved")] = 30.0,
    state: Annotated[Path | None, typer.Option(help="folder of state; default ~/.cache/raytile/train")] = None,
    crops: Annotated[int, typer.Option(min=500, help="crops in the bank")] = 16_000,
    decay_steps: Annotated[int, typer.Option(min=1, help="steps of the final decay")] = 300,
    out: Annotated[Path | None, typer.Option(help="the model folder: released, restored from, looked at")] = None,
) -> None:
    """Train `terra`: autoencoder, decoder, bank, denoiser, decay (a copy, rate to nothing), release, and its pictures.

    Where the state is gone, `restore` begins again from the weights that are shipped; bank and denoiser follow.

    Needs the maps of `pip install raytile[train]`. Pause a stage with SIGSTOP to the number in STATE/STAGE.pid
    and continue it with SIGCONT.
    """
    from raytile.models.registry import TERRA
    from raytile.train import stages
    from raytile.train.state import DEFAULT_STATE

    folder = state or DEFAULT_STATE
    seconds = 60.0 * minutes
    match stage:
        case Stage.restore:
            stages.restore(out or TERRA, folder)
        case Stage.autoencoder:
            stages.autoencoder(folder, seconds)
        case Stage.decoder:
            stages.decoder(folder, seconds)
        case Stage.bank:
            stages.bank(folder, crops)
        case Stage.denoiser:
            stages.denoiser(folder, seconds)
        case Stage.decay:
            stages.decay(folder, seconds, decay_steps)
        case Stage.release:
            stages.release(folder, out or folder / "terra")
        case Stage.sheet:
            stages.sheet(out or folder / "terra", folder / "sheets")
        case Stage.control:
            shares = stages.control(out or folder / "terra", folder, folder / "sheets" / "control.jpg")
            typer.echo(" ".join(f"{name} {share:.3f}" for name, share in shares.items()))
        case Stage.copies:
            matches = stages.copies(out or folder / "terra", folder, folder / "sheets" / "copies.jpg")
            typer.echo(" ".join(f"{match.distance:.3f}" for match in sorted(matches, key=lambda match: match.distance)))
        case Stage.preview:
            share, miss = stages.preview(out or folder / "terra", folder)
            typer.echo(f"explains {share:.4f} of the variance of cells' colours, mean error {miss:.2f} of 255")
