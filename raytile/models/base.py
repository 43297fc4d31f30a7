"""The one call every model family answers: what a worker asks of its diffusion module.

This file knows no windows, tiles or samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from raytile.plan.spec import ModelSpec
    from raytile.sampling import Schedule

    Conditioning = Mapping[str, Tensor]
    Doubling = tuple[Tensor, Tensor]


class Module(Protocol):
    """A loaded diffusion model. Tensors in and out are float32 on the host, whatever device and dtype it runs on.

    The module is deterministic: a row's bits depend on that row, never on its slot or companions, as long as the
    batch has the same number of rows."""

    spec: ModelSpec

    def schedule(self, sampler: str, steps: int) -> Schedule:
        """The timesteps and sigmas of `steps` steps under `sampler`, from the folder's scheduler config."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> list[Conditioning]:
        """One conditioning a prompt: named tensors without a batch axis (host, float32)."""
        ...

    def predict(
        self, x: Tensor, timestep: float, conditioning: Sequence[Conditioning], control: Tensor | None = None
    ) -> Tensor:
        """The network's output for `x` [rows, channels, window, window], one conditioning a row.

        `control` [rows, 1, window * factor, window * factor] in [0, 1] steers a model whose spec names a control; other
        models are never given one."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [3, h, w] in [-1, 1], h and w multiples of factor, to latents [channels, h / factor, w / factor]: what
        `decode` takes to nearly these pixels. Nothing is drawn: of a distribution, the mode."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [channels, h, w] to pixels [3, h * factor, w * factor] in [-1, 1], unclamped."""
        ...

    def doubling(self) -> Doubling | None:
        """How the latents of a picture twice as large follow from these: four cells, of 3 x 3 around each, by an
        affine map (kernel [2, 2, channels, 3, 3, channels], offset [2, 2, channels]). None where interpolating latents
        is as good as anything known."""
        ...

    def turns(self) -> Tensor | None:
        """What a turn of the picture does to the channels of a cell, beside turning the cells: [8, channels, channels],
        by the numbers of `raytile.geometry.turn`, orthogonal. None where turning the cells is all that is known."""
        ...

    def rows_evaluated(self) -> int:
        """Rows that went through the network so far, padding included: counted by a hook on the network itself."""
        ...
