"""Record Mixture of Diffusers (diffusers' community pipeline): its weights, its fusing, and whole runs.

Its random start is handed to it and it is run on the CPU; tiles of 8 cells overlap by half.

    python -m tests.oracles.record_mixture --from CLONE
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.oracles.foreign import clone_from, keep, load
from tests.oracles.tiny import GUIDANCE, PROMPT, start_noise, tiny_model, weights_sum

REPOSITORY, COMMIT = "huggingface/diffusers", "58eb52c0803ea9af3abec60841c2a093bdf1f951"
WINDOW, OVERLAP, STEPS = 8, 4, 4
GRIDS = {"row": (1, 3), "grid": (2, 3)}
"""Rows and columns of tiles."""


def main(arguments: list[str] | None = None) -> None:
    folder = clone_from(arguments, REPOSITORY, COMMIT)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = tiny_model(Path(scratch), window=WINDOW)
    program = load(folder, COMMIT, "examples/community/mixture_tiling.py", stubs=("ligo", "ligo.segments"))
    kept: list[Any] = []

    class Tiny(program.StableDiffusionTilingPipeline):  # type: ignore[misc,name-defined]
        device = "cpu"

        def __init__(self) -> None:
            self.scheduler, self.tokenizer = pipeline.scheduler, pipeline.tokenizer
            self.text_encoder, self.unet = pipeline.text_encoder, pipeline.unet

        def decode_latents(self, latents: Any, cpu_vae: Any) -> None:  # noqa: ARG002
            kept.append(latents[0].numpy())

    tiny = Tiny()
    arrays: dict[str, Any] = {"weights_sum": weights_sum(pipeline.unet)}
    for height, width in ((8, 8), (16, 16), (8, 12)):
        arrays[f"weights {height} {width}"] = tiny._gaussian_weights(8 * width, 8 * height, 1)[0, 0].numpy()
    for name, (rows, columns) in GRIDS.items():
        said: list[Any] = []
        fused: list[Any] = []
        network, step = pipeline.unet.forward, pipeline.scheduler.step

        def listen(*given: Any, network: Any = network, said: list[Any] = said, **named: Any) -> Any:
            answer = network(*given, **named)
            negative, positive = answer["sample"]
            said.append((negative + GUIDANCE * (positive - negative)).numpy())
            return answer

        def watch(prediction: Any, *given: Any, step: Any = step, fused: list[Any] = fused) -> Any:
            fused.append(prediction[0].numpy())
            return step(prediction, *given)

        stride = WINDOW - OVERLAP
        start = start_noise(WINDOW + (rows - 1) * stride, WINDOW + (columns - 1) * stride)
        with (
            mock.patch.object(torch, "randn", return_value=start[None].clone()),
            mock.patch.object(torch, "Generator", return_value=torch.Generator("cpu")),
            mock.patch.object(pipeline.unet, "forward", listen),
            mock.patch.object(pipeline.scheduler, "step", watch),
        ):
            tiny(
                [[PROMPT] * columns] * rows,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                seed=0,
                tile_height=8 * WINDOW,
                tile_width=8 * WINDOW,
                tile_row_overlap=8 * OVERLAP,
                tile_col_overlap=8 * OVERLAP,
            )
        arrays[f"{name} start"] = start.numpy()
        arrays[f"{name} latents"] = kept.pop()
        arrays[f"{name} said"] = np.array(said[: rows * columns])
        arrays[f"{name} fused"] = fused[0].astype(np.float32)
    keep("mixture", arrays)


if __name__ == "__main__":
    main()
