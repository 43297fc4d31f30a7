"""`RaytilePipeline`: raytile behind the call that users of diffusers know."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytile.errors import InvalidRequest
from raytile.plan.request import RenderRequest
from raytile.plan.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from raytile.canvas.canvas import Canvas


@dataclass(frozen=True)
class PipelineOutput:
    """One picture a prompt, held whole in memory: for pictures too large for that, `raytile.render` to a canvas."""

    images: list[Image]


class RaytilePipeline:
    """Paints pictures of any size with many workers; each call is one `raytile.render` a prompt.

    >>> pipe = RaytilePipeline.from_pretrained("terra")
    >>> pipe("relief map of an archipelago", height=1024, width=2048, seed=7).images[0].save("a.png")  # doctest: +SKIP
    """

    def __init__(self, model: str, spec: ModelSpec, dtype: str, device: str) -> None:
        self.model, self.spec, self.dtype, self.device = model, spec, dtype, device

    @classmethod
    def from_pretrained(
        cls, model: str | Path = "terra", *, torch_dtype: torch.dtype | str = "float32", device: str = "auto"
    ) -> RaytilePipeline:
        """A built-in model's name or a diffusers folder. Reads its shape only: workers load the weights.

        `device` is auto, cpu or cuda. Raises `InvalidModel`, one line that names the fix."""
        from raytile.models.registry import resolve

        return cls(str(model), resolve(str(model)), str(torch_dtype).removeprefix("torch."), device)

    def to(self, device: str) -> RaytilePipeline:
        """The same pipeline with workers on `device`: auto, cpu or cuda."""
        return RaytilePipeline(self.model, self.spec, self.dtype, device)

    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        workers: int | str | None = None,
        in_process: bool = False,
        **request: Any,
    ) -> PipelineOutput:
        """Paint each prompt. height and width are pixels (the model's own window by default).

        The seed is `seed` (0 by default, for every prompt) or drawn from `generator`, a new one for each prompt, which
        moves the generator on. `workers` and `in_process` are `raytile.render`'s and change no pixel; any other
        keyword is a field of `RenderRequest`, such as sampler, levels or wrap. Raises what `raytile.render` raises.
        All prompts share the workers. A call starts and ends a Ray of its own, which takes seconds, unless
        this process is connected to one: call `ray.init()` first."""
        from raytile import api

        if generator is not None and seed is not None:
            raise InvalidRequest("seed: give a seed or a generator, not both")
        side = self.spec.window * self.spec.factor
        wishes = [
            RenderRequest.parse(
                **{
                    "prompt": words,
                    "negative": negative_prompt or "",
                    "model": self.model,
                    "width": side if width is None else width,
                    "height": side if height is None else height,
                    "steps": num_inference_steps,
                    "guidance": guidance_scale,
                    "seed": _draw(generator) if generator is not None else seed or 0,
                    "dtype": self.dtype,
                }
                | request
            )
            for words in ([prompt] if isinstance(prompt, str) else prompt)
        ]
        useful = max((api.useful_workers(api.plan(wish)) for wish in wishes), default=0)
        if not useful:
            return PipelineOutput([])
        images = []
        pool = api.make_pool(workers, in_process)
        try:
            pool.connect(useful)
            for wish in wishes:
                with tempfile.TemporaryDirectory(prefix="raytile-") as folder:
                    out = Path(folder) / "picture.zarr"
                    images.append(_image(api.render(wish, out, pool=pool, device=self.device)))
        finally:
            pool.close()
        return PipelineOutput(images)


def _draw(generator: torch.Generator) -> int:
    import torch

    return int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))


def _image(canvas: Canvas) -> Image:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.image[:]).transpose(1, 2, 0)))
