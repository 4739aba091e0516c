"""The optimiser Muon: momentum with orthogonalised updates of weight matrices (Jordan et al., 2024).

An orthogonal update moves along all directions of a gradient alike, weak ones too, which takes fewer steps
(kellerjordan.github.io). Small models trained from scratch gained by it (ENSAM, 2025). `torch.optim.Muon` takes
matrices only; here a convolution's weight is the matrix of its output channels by everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that drives all singular values near 1 (Jordan et al.)."""
ADAMW_RMS = 0.2
"""Root mean square of an AdamW update at learning rate 1; with updates scaled to it, both optimisers share one rate."""


class Muon(torch.optim.Optimizer):
    """Muon for weights of two and more dimensions; all other parameters belong to AdamW."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                update = orthogonal(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
                scale = ADAMW_RMS * max(update.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view(weight.shape), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximately the nearest orthogonal matrix, by quintic Newton-Schulz iterations; shape kept."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def optimisers(model: nn.Module, name: str, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """`adamw` for all parameters, or `muon` for weights and AdamW for the rest; raises ValueError for another name."""
    settings: dict[str, Any] = {"lr": rate, "weight_decay": weight_decay}
    if name == "adamw":
        return [torch.optim.AdamW(model.parameters(), **settings)]
    if name != "muon":
        raise ValueError(f"'{name}' is not an optimiser; choose adamw or muon.")
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [Muon(matrices, **settings), torch.optim.AdamW(others, **settings)]
