"""What every loaded network shares: pinned arithmetic and an honest count of the rows it was given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def pin_numerics(device: str) -> None:
    """Make this process compute the same bits every time: no autotuning, no TF32, deterministic kernels only.

    Call it before the first CUDA call: cuBLAS reads its workspace setting once. Process-wide, as torch has it.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class RowCounter:
    """Counts the rows that go through a network, by a forward hook: nobody can forget to report one."""

    def __init__(self, network: nn.Module) -> None:
        self.rows = 0
        network.register_forward_hook(self._count)

    def _count(self, _network: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        self.rows += len(inputs[0])
