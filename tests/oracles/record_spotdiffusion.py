"""Record a whole run of SpotDiffusion on a tiny random Stable Diffusion, its shifts given.

Its windows of 64 cells become 8, its random start and its random shifts are handed to it; nothing else is touched.
After each step it rolls the canvas and never rolls it back: the latents kept here are as it leaves them.

    python -m tests.oracles.record_spotdiffusion --from CLONE
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.oracles.foreign import clone_from, keep, load
from tests.oracles.tiny import GUIDANCE, NEGATIVE, PROMPT, start_noise, tiny_model, weights_sum

REPOSITORY, COMMIT = "stanifrolov/spotdiffusion", "05042352d0c29404ba592672402e2fcc8c8e2be5"
HEIGHT, WIDTH, WINDOW = 16, 32, 8  # cells
SHIFTS = (5, 0, 18, 31, 2, 9)
"""By how many cells the canvas rolls to the left after each step."""


def main(arguments: list[str] | None = None) -> None:
    folder = clone_from(arguments, REPOSITORY, COMMIT)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = tiny_model(Path(scratch), window=WINDOW)
    program = load(folder, COMMIT, "panorama.py", stubs=("torchvision", "torchvision.transforms"))
    kept: list[Any] = []

    class Tiny(program.SpotDiffusion):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.device, self.scheduler, self.tokenizer = "cpu", pipeline.scheduler, pipeline.tokenizer
            self.text_encoder, self.unet = pipeline.text_encoder, pipeline.unet
            self.unet.in_channels = 4

        def decode_latents(self, latents: Any) -> Any:
            kept.append(latents[0].numpy())
            raise StopIteration

    views = program.get_views
    program.get_views = lambda height, width, **_: views(height, width, window_size=WINDOW, stride=WINDOW)
    start = start_noise(HEIGHT, WIDTH)
    with (
        mock.patch.object(torch, "randn", return_value=start[None].clone()),
        mock.patch.object(torch, "randint", side_effect=[torch.tensor([shift]) for shift in SHIFTS]),
        mock.patch.object(torch, "autocast", return_value=torch.no_grad()),
        contextlib.suppress(StopIteration),
    ):
        Tiny().text2panorama(PROMPT, NEGATIVE, 8 * HEIGHT, 8 * WIDTH, len(SHIFTS), GUIDANCE)
    (latents,) = kept
    keep(
        "spotdiffusion",
        {
            "start": start.numpy(),
            "shifts": np.array(SHIFTS),
            "latents": latents,
            "weights_sum": weights_sum(pipeline.unet),
        },
    )


if __name__ == "__main__":
    main()
