"""AdamW for vectors, embeddings and outer layers; orthogonalised momentum (Muon) for inner weight matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic Newton-Schulz iteration of Jordan et al., "Muon: an optimizer for hidden layers" (2024)."""


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """About U V' of a matrix's singular value decomposition (singular values end between 0.7 and 1.2)."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = (x.T if tall else x).float()
    return result


class MixedOptimizer(torch.optim.Optimizer):
    """Two rules in one optimizer; a group's key "matrix" says which. Rates are those of AdamW.

    Matrix steps are scaled by 0.2 sqrt(longer side), which gives them AdamW's usual size (Liu et al., "Muon is
    scalable for LLM training", 2025). Convolution kernels count as [out, in * height * width].
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], rate: float, outer: tuple[str, ...]) -> None:
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, weight in named:
            inner = weight.ndim >= 2 and min(weight.flatten(1).shape) > 1 and not any(part in name for part in outer)
            (matrices if inner else others).append(weight)
        groups: list[dict[str, Any]] = [{"params": others, "matrix": False}]
        if matrices:
            groups.append({"params": matrices, "matrix": True})
        super().__init__(groups, {"lr": rate, "decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One update from the gradients at hand."""
        for group in self.param_groups:
            rate, decay = group["lr"], group["decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if group["matrix"]:
                    if not state:
                        state["momentum"] = torch.zeros_like(weight)
                    momentum = state["momentum"].lerp_(weight.grad, 0.05)
                    update = orthogonalise(weight.grad.lerp(momentum, 0.95).flatten(1))
                    weight.mul_(1.0 - rate * decay)
                    weight.add_(update.view_as(weight), alpha=-0.2 * rate * max(update.shape) ** 0.5)
                else:
                    if not state:
                        state["first"], state["second"] = torch.zeros_like(weight), torch.zeros_like(weight)
                        state["step"] = 0
                    state["step"] += 1
                    first = state["first"].lerp_(weight.grad, 0.1)
                    second = state["second"].lerp_(weight.grad.square(), 0.01)
                    bias = (1 - 0.99 ** state["step"]) ** 0.5 / (1 - 0.9 ** state["step"])
                    weight.addcdiv_(first, second.sqrt() + 1e-8, value=-rate * bias)
