"""What a network that can be steered sees of a control picture: extra input channels beside the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CONTROLS = ("", "land")
"""What `ModelSpec.control` may be."""

SUB_CELLS = 2
"""Sub-cells of a latent cell along each axis: a coast is seen finer than the latent grid."""

CHANNELS = SUB_CELLS**2 + 1


def control_channels(control: Tensor, factor: int) -> Tensor:
    """A control picture [rows, 1, h * factor, w * factor] in [0, 1] as `CHANNELS` channels of the latent grid
    [rows, CHANNELS, h, w]: the mean of each sub-cell (row by row), then ones, which say that there is one.

    Where no picture is given all channels are zero. `factor` must be a multiple of `SUB_CELLS`."""
    import torch
    from torch.nn import functional as F

    cells = F.pixel_unshuffle(F.avg_pool2d(control, factor // SUB_CELLS), SUB_CELLS)
    return torch.cat([cells, torch.ones_like(cells[:, :1])], dim=1)
