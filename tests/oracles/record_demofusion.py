"""Record DemoFusion (diffusers' community pipeline): filter, shares, windows, and a whole phase on a tiny network.

Its jitter and its noise are handed to it, its network is a tiny random Stable Diffusion; the pictures between phases
are not decoded. Cells at the canvas's edge are never read from beyond it: windows there have no jitter.

    python -m tests.oracles.record_demofusion --from CLONE
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.oracles.foreign import clone_from, keep, load
from tests.oracles.tiny import GUIDANCE, NEGATIVE, PROMPT, start_noise, tiny_model, weights_sum

REPOSITORY, COMMIT = "huggingface/diffusers", "58eb52c0803ea9af3abec60841c2a093bdf1f951"
WINDOW, STRIDE, SCALE, STEPS, SIGMA = 16, 8, 2, 8, 0.8
INNER = (-2, 2, 0, 2, -2, 0, 2, 2, -2, -2)
"""Jitter of windows within the canvas, over and over."""


def jitter(edges: bool) -> Callable[[int, int], int]:
    """Jitter from a fixed list. `edges`: at the canvas's edge, too, as far as it may go."""
    given = iter(INNER * 1000)
    return lambda low, high: next(given) if low < 0 < high else (low + high if edges else 0)


def pipeline_of(program: Any, network: Any, scheduler: Any, kept: list[Any]) -> Any:
    """A DemoFusionSDXLPipeline of the parts that its phases need."""

    def postprocess(image: Any, output_type: str) -> list[Any]:  # noqa: ARG001
        return [image]

    def decode(latents: Any, return_dict: bool) -> list[Any]:  # noqa: ARG001
        kept.append(latents[0].numpy())
        return [None]

    class Tiny(program.DemoFusionSDXLPipeline):  # type: ignore[misc,name-defined]
        _execution_device = torch.device("cpu")

        def __init__(self) -> None:
            self.unet, self.scheduler = network, scheduler
            self.vae_scale_factor, self.default_sample_size = 8, WINDOW
            config = SimpleNamespace(force_upcast=False, scaling_factor=1.0)
            self.vae = SimpleNamespace(dtype=torch.float32, config=config, decode=decode)
            self.image_processor = SimpleNamespace(postprocess=postprocess)

        def check_inputs(self, *given: Any) -> None: ...

        def encode_prompt(self, **named: Any) -> Any:
            negative, positive = named["negative_prompt_embeds"], named["prompt_embeds"]
            return positive, negative, torch.zeros(1, 1), torch.zeros(1, 1)

        def _get_add_time_ids(self, *given: Any, **named: Any) -> torch.Tensor:  # noqa: ARG002
            return torch.zeros(1, 6)

        @contextlib.contextmanager
        def progress_bar(self, total: int) -> Iterator[Any]:  # type: ignore[override] # noqa: ARG002
            yield mock.Mock()

        def maybe_free_model_hooks(self) -> None: ...

    return Tiny()


def phases(
    program: Any, unet: Callable[..., Any], scheduler: Any, words: tuple[Any, Any], steps: int, *, dilated: bool = True
) -> dict[str, list[Any]]:
    """What is seen in the phase of twice the size: one entry a step, and the latents at the ends of both phases.

    Not `dilated`: that lane's share is f to a power so high that it is nothing."""
    seen: dict[str, list[Any]] = {name: [] for name in ("c1", "c2", "c3", "time", "views", "mixed", "filtered", "x")}
    ends: list[Any] = []

    class Network:
        config = SimpleNamespace(sample_size=WINDOW, in_channels=4)

        def __call__(self, x: Any, time: Any, **named: Any) -> Any:
            there = sys._getframe(1).f_locals
            if "latents_gaussian" in there:  # the last call of a step is the dilated lane's, and is what is kept
                step = there["i"]
                for name in ("c1", "c2", "c3"):
                    seen[name][step:] = [float(there[name])]
                seen["time"][step:] = [int(time)]
                seen["mixed"][step:] = [there["latents"][0].numpy()]
                seen["filtered"][step:] = [there["latents_gaussian"][0].numpy()]
                seen["views"][step:] = [seen_views[-1]]
            return unet(x, time, named["encoder_hidden_states"])

    seen_views: list[Any] = []
    tiny = pipeline_of(program, Network(), scheduler, ends)
    views = tiny.get_views
    tiny.get_views = lambda *given, **named: seen_views.append(views(*given, **named)) or seen_views[-1]
    scheduler._init_step_index = lambda _: None
    noise = start_noise(SCALE * WINDOW, SCALE * WINDOW, level=1)[None]
    enlarge, enlarged = torch.nn.functional.interpolate, []

    def watch(x: Any, *given: Any, **named: Any) -> Any:
        answer = enlarge(x, *given, **named)
        if named.get("mode") == "bicubic":
            enlarged.append(answer[0].numpy())
        return answer

    with (
        mock.patch.object(torch, "randn_like", return_value=noise),
        mock.patch.object(torch.nn.functional, "interpolate", watch),
        mock.patch.object(random, "randint", jitter(edges=False)),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        tiny(
            prompt="",
            height=8 * SCALE * WINDOW,
            width=8 * SCALE * WINDOW,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            latents=start_noise(WINDOW, WINDOW)[None],
            prompt_embeds=words[1],
            negative_prompt_embeds=words[0],
            output_type="np",
            callback=lambda step, time, x: seen["x"].append(x[0].numpy()),  # noqa: ARG005
            multi_decoder=False,
            stride=STRIDE,
            sigma=SIGMA,
            cosine_scale_2=1.0 if dilated else 1e9,
        )
    seen["x"] = seen["x"][steps:]
    return seen | {"noise": list(noise), "enlarged": enlarged, "ends": ends}


def main(arguments: list[str] | None = None) -> None:
    folder = clone_from(arguments, REPOSITORY, COMMIT)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = tiny_model(Path(scratch), window=WINDOW)
    path = "examples/community/pipeline_demofusion_sdxl.py"
    program = load(folder, COMMIT, path, stubs=("matplotlib", "matplotlib.pyplot"))
    arrays: dict[str, Any] = {"weights_sum": weights_sum(pipeline.unet)}

    x = torch.randn(1, 4, 18, 24, generator=torch.Generator().manual_seed(5))
    arrays["filter x"] = x[0].numpy()
    for scale in (2, 3):
        for sigma in (0.8, 0.3):
            filtered = program.gaussian_filter(x, kernel_size=2 * scale - 1, sigma=sigma)
            arrays[f"filter {scale} {sigma}"] = filtered[0].numpy()

    bare = pipeline_of(program, None, None, [])
    for height, width in ((32, 32), (32, 48), (30, 41)):
        with mock.patch.object(random, "randint", jitter(edges=True)):
            found = bare.get_views(8 * height, 8 * width, window_size=WINDOW, stride=STRIDE, random_jitter=True)
        arrays[f"views {height} {width}"] = np.array(found)
        found = bare.get_views(8 * height, 8 * width, window_size=WINDOW, stride=STRIDE)
        arrays[f"still {height} {width}"] = np.array(found)

    positive, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    nothing = phases(program, lambda x, *_: (x,), pipeline.scheduler, (negative, positive), 50)
    arrays |= {f"shares {name}": np.array(nothing[name]) for name in ("time", "c1", "c2", "c3")}

    def network(x: Any, time: Any, words: Any) -> Any:
        with torch.no_grad():
            return pipeline.unet(x, time, encoder_hidden_states=words, return_dict=False)

    seen = phases(program, network, pipeline.scheduler, (negative, positive), STEPS)
    near = phases(program, network, pipeline.scheduler, (negative, positive), STEPS, dilated=False)
    assert seen["views"] == near["views"]
    arrays |= {
        "near x": near["x"][-1],
        "small": seen["ends"][0],
        "enlarged": seen["enlarged"][0],
        "noise": seen["noise"][0].numpy(),
        "time": np.array(seen["time"]),
        "c1": np.array(seen["c1"]),
        "c2": np.array(seen["c2"]),
        "c3": np.array(seen["c3"]),
        "views": np.array(seen["views"]),
        "mixed": np.array(seen["mixed"][::3]),
        "filtered": np.array(seen["filtered"][::3]),
        "x": np.array(seen["x"]),
        "end": seen["ends"][1],
    }
    keep("demofusion", arrays)


if __name__ == "__main__":
    main()
