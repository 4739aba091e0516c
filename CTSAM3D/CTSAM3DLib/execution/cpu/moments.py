"""Mean and variance of each channel, computed part by part and merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CACHED = 2**17
"""Numbers that are summed at a time, in a core's own cache."""
EPSILON = 1e-5
"""Of instance norm, as PyTorch has it."""


class Moments(NamedTuple):
    """Of each channel of some voxels: how many they are, their mean, and the sum of their squared distances from it."""

    voxels: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """Of voxels (voxel, channel)."""
        ones = torch.ones(1, len(rows))
        mean = ones @ rows / len(rows)
        squares = torch.zeros_like(mean)
        step = min(max(1, CACHED // rows.shape[1]), len(rows))
        centred = torch.empty(step, rows.shape[1])
        for part in rows.split(step):
            distances = torch.sub(part, mean, out=centred[: len(part)])
            squares += ones[:, : len(part)] @ distances.mul_(distances)
        return cls(len(rows), mean[0], squares[0])

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """Of all voxels, from those of parts of them (Chan, Golub and LeVeque, 1979)."""
        voxels = sum(part.voxels for part in parts)
        mean = torch.stack([part.mean * (part.voxels / voxels) for part in parts]).sum(dim=0)
        squares = torch.stack([part.squares + part.voxels * (part.mean - mean).square() for part in parts]).sum(dim=0)
        return cls(voxels, mean, squares)

    def scale(self) -> Tensor:
        """The reciprocal of each channel's standard deviation as instance norm takes it."""
        return (self.squares / self.voxels + EPSILON).rsqrt()
