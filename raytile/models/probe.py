"""The device digest: whether two devices compute alike is measured, not assumed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from raytile.errors import ClusterError
from raytile.geometry.box import Box
from raytile.plan import noise

if TYPE_CHECKING:
    from torch import Tensor

    from raytile.models.base import Module

PROMPTS = ("a probe of the device", "")
TIMESTEP = 321.0
DECODED = 6
"""Latent cells along each side of the patch that is decoded."""


def probe(module: Module, rows: int | None = None) -> str:
    """SHA-256 over what the module makes of a fixed batch: prompts encoded, one prediction, one decode, how
    latents double; and over some noise, which this host draws, not the device.

    `rows` is the micro-batch (the spec's by default). The batch runs in two row orders. Raises `ClusterError` where
    a row's bits depend on its slot or companions: such a device cannot keep a picture independent of the workers.
    """
    import torch

    rows = rows or module.spec.micro_batch
    window, channels = module.spec.window, module.spec.channels
    generator = np.random.Generator(np.random.Philox(key=0x7261))
    x = torch.from_numpy(generator.standard_normal((rows, channels, window, window), dtype=np.float32))
    encoded = module.encode_prompts(PROMPTS)
    conditioning = [encoded[row % len(PROMPTS)] for row in range(rows)]
    straight = module.predict(x, TIMESTEP, conditioning)
    # turned by one: every row gets another slot, and at odd places other companions
    order = [*range(1, rows), 0]
    turned = module.predict(x[order], TIMESTEP, [conditioning[row] for row in order])
    if not torch.equal(turned, straight[order]):
        raise ClusterError(
            f"{module.spec.name}: on this device a row's bits depend on its place in a batch of {rows}; "
            "choose another micro-batch (1 always works)"
        )
    pixels = module.decode(x[0, :, :DECODED, :DECODED])
    total = hashlib.sha256()
    for tensor in (
        *(module.doubling() or ()),
        *(row[name] for row in encoded for name in sorted(row)),
        straight,
        pixels,
        module.encode(pixels.clamp(-1, 1)),
    ):
        total.update(_bytes(tensor))
    total.update(_host())
    return total.hexdigest()


def _host() -> bytes:
    """Noise as it starts a picture, and its functions in full: float32 noise hides most differences in their last bits.

    numpy chooses its logarithm and cosine by the processor, and not all choices agree in every bit."""
    cells = noise.normal(noise.key(0, 0, "probe"), Box(0, 32, 0, 32), 4)
    unit = np.random.Generator(np.random.Philox(key=0x7261)).random(4096)
    angle = 2.0 * np.pi * unit
    functions = np.stack((np.log(1.0 - unit), np.cos(angle), np.sin(angle)))
    return cells.astype("<f4").tobytes() + functions.astype("<f8").tobytes()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().astype("<f4").tobytes()
