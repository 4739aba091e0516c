"""Mean and variance of each channel, computed in parts and merged (Chan, Golub and LeVeque, 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CACHED = 2**17
"""Values summed at a time, so that they stay in a core's own cache."""
EPSILON = 1e-5
"""PyTorch's epsilon of instance norm."""


class MeanVariance(NamedTuple):
    """For each channel of some voxels: their number, their mean, and the sum of their squared deviations from it."""

    voxels: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> MeanVariance:
        """The statistics of voxels (voxel, channel)."""
        ones = torch.ones(1, len(rows))
        mean = ones @ rows / len(rows)
        squares = torch.zeros_like(mean)
        step = min(max(1, CACHED // rows.shape[1]), len(rows))
        centred = torch.empty(step, rows.shape[1])
        for part in rows.split(step):
            deviations = torch.sub(part, mean, out=centred[: len(part)])
            squares += ones[:, : len(part)] @ deviations.mul_(deviations)
        return cls(len(rows), mean[0], squares[0])

    @classmethod
    def merged(cls, parts: Sequence[MeanVariance]) -> MeanVariance:
        """The statistics of all voxels from those of parts of them."""
        voxels = sum(part.voxels for part in parts)
        mean = torch.stack([part.mean * (part.voxels / voxels) for part in parts]).sum(dim=0)
        squares = torch.stack([part.squares + part.voxels * (part.mean - mean).square() for part in parts]).sum(dim=0)
        return cls(voxels, mean, squares)

    def scale(self) -> Tensor:
        """The reciprocal of each channel's standard deviation, as instance norm computes it."""
        return (self.squares / self.voxels + EPSILON).rsqrt()
