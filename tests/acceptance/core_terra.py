"""Prints one JSON document: figures of the shipped model, each with its limit and whether it holds.

Run: python -m tests.acceptance.core_terra [--state DIR] [--sheets DIR]. Needs the maps of raytile[train].
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tests.acceptance.common import report

MEGABYTES = 25.0
TERRA = Path(__file__).parents[2] / "raytile" / "models" / "terra"


def line(name: str, value: float, limit: float, *, at_least: bool) -> dict[str, Any]:
    """One figure beside its limit."""
    passed = value >= limit if at_least else value <= limit
    return {"name": name, "value": value, "limit": limit, "at_least": at_least, "pass": passed}


def autoencoder_lines(state: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The autoencoder's gates over the committed held-out crops, on the shipped half-precision weights."""
    from raytile.train.autoencoder import patch_basis
    from raytile.train.gates import crops_of, measure, read_places
    from raytile.train.release import read_release
    from raytile.train.world import load_world

    world = load_world(state)
    _, autoencoder, _, _ = read_release(TERRA)
    rows, mean, _ = patch_basis(world, int(autoencoder.config["latent_channels"]))
    figures = measure(autoencoder, crops_of(world, read_places()), rows, mean)
    lines = [
        line("decibels above PCA of as many numbers", figures["psnr_db"] - figures["pca_db"], 0.4, at_least=True),
        line("gradient on the 8-pixel phase over others", figures["phase_ratio"], 1.03, at_least=False),
        line("largest error of a tiled decode", figures["tile_error"], 1e-5, at_least=False),
        line("power kept at 1/8 to 1/2 cycles a pixel", figures["band_power_ratio"], 0.8, at_least=True),
        line("deviations of channels, largest over smallest", figures["channel_deviation_ratio"], 2.0, at_least=False),
    ]
    return lines, figures


def folder_lines() -> list[dict[str, Any]]:
    """Size and kinds of the shipped files."""
    files = [file for file in TERRA.rglob("*") if file.is_file()]
    odd = [file for file in files if file.suffix not in {".json", ".safetensors", ".md", ".jpg"}]
    return [
        line("megabytes shipped", sum(file.stat().st_size for file in files) / 1e6, MEGABYTES, at_least=False),
        line("files of other kinds than json, safetensors, md, jpg", float(len(odd)), 0.0, at_least=False),
    ]


def sheet_lines(folder: Path) -> list[dict[str, Any]]:
    """Paints the sheets; passes if no picture is flat."""
    import numpy as np
    from PIL import Image

    from raytile.train.stages import sheet

    files = sheet(TERRA, folder)
    spreads = [float(np.asarray(Image.open(file)).std()) for file in files]
    return [
        line("sheets painted", float(len(files)), 8.0, at_least=True),
        line("smallest deviation of a sheet's pixels", min(spreads), 10.0, at_least=True),
    ]


def main() -> None:
    """Measure and report."""
    from raytile.train.state import DEFAULT_STATE

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE)
    parser.add_argument("--sheets", type=Path, default=None, help="paint the sheets into this folder")
    options = parser.parse_args()
    lines, figures = autoencoder_lines(options.state)
    lines += folder_lines()
    if options.sheets is not None:
        lines += sheet_lines(options.sheets)
    report("terra's gates", {row["name"]: row["pass"] for row in lines}, {"lines": lines, **figures})


if __name__ == "__main__":
    main()
