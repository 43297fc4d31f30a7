"""`toy` and `timed`: modules without weight files, for tests, tours and timings of everything but the network.

`toy` is a real epsilon-predicting denoiser in shape: three 3x3 convolutions conditioned on time and text, weights
drawn from a counter-based generator. Its pictures are coloured mosaics. `timed` has the same geometry, sleeps
instead of computing, and so shows what orchestration alone costs. Torch is imported only when one is loaded.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raytile.errors import InvalidModel
from raytile.plan.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from raytile.models.base import Conditioning, Doubling
    from raytile.sampling import Schedule

CHANNELS, FACTOR, WIDTH = 4, 8, 16
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
}
"""Stable Diffusion's noise schedule (Rombach et al. 2022), in diffusers' words."""

SHAPES = {
    "first": (WIDTH, CHANNELS, 3, 3),
    "middle": (WIDTH, WIDTH, 3, 3),
    "last": (CHANNELS, WIDTH, 3, 3),
    "decode": (3 * FACTOR * FACTOR, CHANNELS, 3, 3),
}


def _uniform(key: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers in [-1, 1): multiples of 2**-23, so the same on every machine."""
    words = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    return ((words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - 1).reshape(shape)


def _weights() -> dict[str, NDArray[np.float32]]:
    """The network's and the decoder's kernels, scaled to keep the variance of what they are given."""
    kernels = {}
    for key, (name, shape) in enumerate(SHAPES.items()):
        gain = np.sqrt(3.0 / np.prod(shape[1:]))
        kernels[name] = (_uniform(key, shape) * gain).astype(np.float32)
    # pixels of one cell vary around the cell's colour: a mean over the cell plus a tenth of texture
    texture = kernels["decode"].reshape(3, FACTOR * FACTOR, CHANNELS, 3, 3)
    smooth = texture.mean(axis=1, keepdims=True) * FACTOR
    kernels["decode"] = (0.2 * smooth + 0.08 * texture).reshape(SHAPES["decode"]).astype(np.float32)
    return kernels


def _colours() -> NDArray[np.float64]:
    """The colour [3, channels] of a wide even patch of each latent channel, decoded."""
    kernel = _weights()["decode"].reshape(3, FACTOR * FACTOR, CHANNELS, 9)
    colours: NDArray[np.float64] = kernel.astype(np.float64).mean(axis=1).sum(axis=2)
    return colours


def _exact(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Rounded to multiples of 2**-12: what machines compute differently in the last bits becomes the same."""
    return (np.round(numbers * 4096) / 4096).astype(np.float32)


def _encoder() -> NDArray[np.float32]:
    """From a cell's mean colour the least latents [channels, 3, 1, 1] that, all around, decode to that colour."""
    return _exact(np.linalg.pinv(_colours()))[:, :, None, None]


def _shore() -> NDArray[np.float32]:
    """What a mask adds to the network's last layer, [1, channels, 1, 1]: towards bright on land, dark on water."""
    towards = np.linalg.pinv(_colours()).sum(axis=1)
    return _exact(2.0 * towards / np.abs(towards).max())[None, :, None, None]


def _digest() -> str:
    total = hashlib.sha256()
    for name, kernel in _weights().items():
        total.update(name.encode() + kernel.astype("<f4").tobytes())
    return total.hexdigest()


def toy_spec() -> ModelSpec:
    return ModelSpec(
        name="toy",
        kind="toy",
        path="",
        digest=_digest(),
        channels=CHANNELS,
        factor=FACTOR,
        window=16,
        network_stride=1,
        decode_halo=1,
        prediction="epsilon",
        default_sampler="ddim",
        default_steps=8,
        default_guidance=2.0,
        micro_batch=4,
        control="land",
        weights_bytes=sum(kernel.nbytes for kernel in _weights().values()),
    )


class Toy:
    """See the file's head. Receptive field: 3 cells to each side to predict, 1 to decode, 0 to encode."""

    def __init__(self, spec: ModelSpec, device: str, dtype: str) -> None:
        import torch

        from raytile.models.numerics import RowCounter, pin_numerics

        pin_numerics(device)
        self.spec = spec
        self._device, self._dtype = torch.device(device), getattr(torch, dtype)
        kernels = {name: torch.from_numpy(kernel).to(self._device, self._dtype) for name, kernel in _weights().items()}
        self._decoder = kernels.pop("decode")
        self._encoder = torch.from_numpy(_encoder()).to(self._device, self._dtype)
        self._shore = torch.from_numpy(_shore()).to(self._device, self._dtype)
        self._network = _network(kernels)
        self._counter = RowCounter(self._network)
        betas = np.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000) ** 2  # type: ignore[operator]
        self._kept = np.cumprod(1 - betas)

    def schedule(self, sampler: str, steps: int) -> Schedule:
        from raytile.models.schedules import build_schedule

        return build_schedule(SCHEDULER, "epsilon", sampler, steps)

    def encode_prompts(self, prompts: Sequence[str]) -> list[Conditioning]:
        import torch

        keys = (int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:16], "little") for prompt in prompts)
        return [{"text": torch.from_numpy(_uniform(key, (WIDTH,)))} for key in keys]

    def predict(
        self, x: Tensor, timestep: float, conditioning: Sequence[Conditioning], control: Tensor | None = None
    ) -> Tensor:
        import torch
        from torch.nn import functional as F

        kept = float(np.interp(timestep, np.arange(1000), self._kept))
        text = torch.stack([row["text"] for row in conditioning]).to(self._device, self._dtype)
        land = None
        if control is not None:
            land = self._shore * (2 * F.avg_pool2d(control.to(self._device, self._dtype), FACTOR) - 1)
        with torch.no_grad():
            picture: Tensor = self._network(x.to(self._device, self._dtype), text, land).float().cpu()
        # the best guess for clean latents of unit variance is alpha * x; the network adds sigma * picture to it
        alpha, sigma = math.sqrt(kept), math.sqrt(1 - kept)
        return x * sigma - picture * alpha

    def decode(self, latents: Tensor) -> Tensor:
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            cells = F.conv2d(latents[None].to(self._device, self._dtype), self._decoder, padding=1)
            pixels: Tensor = F.pixel_shuffle(cells, FACTOR)[0]
        return pixels.float().cpu()

    def encode(self, pixels: Tensor) -> Tensor:
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            colours = F.avg_pool2d(pixels[None].to(self._device, self._dtype), FACTOR)
            latents: Tensor = F.conv2d(colours, self._encoder)[0]
        return latents.float().cpu()

    def doubling(self) -> Doubling | None:
        return None

    def turns(self) -> Tensor | None:
        return None

    def rows_evaluated(self) -> int:
        return self._counter.rows


def _network(kernels: dict[str, Tensor]) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Network(nn.Module):
        def forward(self, x: Tensor, text: Tensor, land: Tensor | None) -> Tensor:
            hidden = F.silu(F.conv2d(x, kernels["first"], padding=1) + text[:, :, None, None])
            hidden = F.silu(F.conv2d(hidden, kernels["middle"], padding=1) + text[:, :, None, None])
            drawn = F.conv2d(hidden, kernels["last"], padding=1) * 2
            return torch.tanh(drawn if land is None else drawn + land)

    return Network()


@dataclass(frozen=True)
class Timing:
    """How long `timed` sleeps for a micro-batch: seconds * (1 + jitter * u), u in [-1, 1) drawn by `seed` and input."""

    seconds: float = 0.05
    jitter: float = 0.0
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Timing:
        """From "seconds=0.5,jitter=0.2,seed=1", each part optional. Raises `InvalidModel`."""
        try:
            given = dict(part.split("=") for part in text.split(",") if part)
            seed = int(given.pop("seed", 0))
            timing = cls(seed=seed, **{name: float(value) for name, value in given.items()})
        except (TypeError, ValueError):
            raise InvalidModel(f"model: write timed:seconds=0.5,jitter=0.2,seed=0, not timed:{text}") from None
        if not (0 <= timing.seconds < 3600 and 0 <= timing.jitter <= 1 and timing.seed >= 0):
            raise InvalidModel(f"model: timed takes seconds in [0, 3600), jitter in [0, 1], seed >= 0 (got {text})")
        return timing


@dataclass(frozen=True)
class Pace:
    """How the machine that runs `timed` differs from a good one: every sleep is `slower` times as long, and each
    `every`-th micro-batch (0: none) takes `stutter` seconds more. No part of the request: it changes no pixel."""

    slower: float = 1.0
    every: int = 0
    stutter: float = 0.0

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Pace:
        """From RAYTILE_TIMED_SLOWER (2.0: half speed) and RAYTILE_TIMED_STUTTER (20:1.5: each 20th batch 1.5 s more).

        Raises `InvalidModel`."""
        slower, stutter = variables.get("RAYTILE_TIMED_SLOWER", "1"), variables.get("RAYTILE_TIMED_STUTTER", "0:0")
        try:
            every, _, seconds = stutter.partition(":")
            pace = cls(float(slower), int(every), float(seconds))
        except ValueError:
            pace = cls(slower=-1)
        if not (0 < pace.slower <= 1000 and pace.every >= 0 and 0 <= pace.stutter < 3600):
            raise InvalidModel(
                "timed: write RAYTILE_TIMED_SLOWER=2.0 (above 0, at most 1000) and RAYTILE_TIMED_STUTTER=20:1.5 "
                f"(batches:seconds), not {slower} and {stutter}"
            )
        return pace

    def seconds(self, seconds: float, batch: int) -> float:
        """How long batch number `batch` (from 1) takes here, where a good machine takes `seconds`."""
        return seconds * self.slower + (self.stutter if self.every and batch % self.every == 0 else 0.0)


def timed_spec(name: str) -> ModelSpec:
    """The spec of `timed` or `timed:...`; the name carries the timing to the worker. Raises `InvalidModel`."""
    Timing.parse(name.partition(":")[2])
    digest = hashlib.sha256(b"timed 1").hexdigest()
    return replace(toy_spec(), name=name, kind="timed", digest=digest)


class Timed(Toy):
    """Sleeps for a set time a micro-batch without using the processor; predicts half of x."""

    def __init__(self, spec: ModelSpec, device: str, dtype: str) -> None:
        super().__init__(spec, device, dtype)
        self._timing = Timing.parse(spec.name.partition(":")[2])
        self._pace = Pace.read(os.environ)
        self._rows = self._batches = 0

    def predict(
        self,
        x: Tensor,
        timestep: float,
        conditioning: Sequence[Conditioning],
        control: Tensor | None = None,  # noqa: ARG002 (the protocol has it)
    ) -> Tensor:
        """Whatever the control: it shows nothing."""
        content = hashlib.sha256(np.float64(timestep).tobytes() + x.numpy().tobytes()).digest()
        drawn = float(_uniform(int.from_bytes(content[:8], "little") ^ self._timing.seed, (1,))[0])
        self._batches += 1
        time.sleep(self._pace.seconds(self._timing.seconds * (1 + self._timing.jitter * drawn), self._batches))
        self._rows += len(conditioning)
        return x * 0.5

    def rows_evaluated(self) -> int:
        return self._rows
