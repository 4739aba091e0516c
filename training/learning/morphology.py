"""Sets of voxels grown and shrunk by shifted copies, which takes a small part of pooling's time on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (-3, -2, -1)


def grown(mask: Tensor, axes: tuple[int, ...] = AXES) -> Tensor:
    """A set with the voxels that share a face with it, along the given axes.

    Args:
        mask: bool, (..., z, y, x), or (..., y, x) with the axes -2 and -1.
        axes: counted from the last.

    """
    larger = mask.clone()
    for dim in axes:
        rest = mask.shape[dim] - 1
        larger.narrow(dim, 1, rest).logical_or_(mask.narrow(dim, 0, rest))
        larger.narrow(dim, 0, rest).logical_or_(mask.narrow(dim, 1, rest))
    return larger


def grown_by(mask: Tensor, steps: Tensor, most: int, axes: tuple[int, ...] = AXES) -> Tensor:
    """Sets grown by as many steps as each patch wants.

    Args:
        mask: bool, (b, ..., z, y, x).
        steps: (b,), from 0 to `most`.
        most: how many steps are made in all.
        axes: see `grown`.

    """
    steps = steps.view(-1, *(1,) * (mask.ndim - 1))
    for step in range(most):
        mask = torch.where(steps > step, grown(mask, axes), mask)
    return mask


def resized_by(mask: Tensor, steps: Tensor, most: int) -> Tensor:
    """Sets grown by positive steps and shrunk by negative ones; a set of which nothing would be left stays as it is.

    What lies beyond the array neither grows into it nor eats from it.

    Args:
        mask: bool, (b, 1, z, y, x).
        steps: (b,), from -most to `most`.
        most: how many steps are made in all.

    """
    # To shrink a set is to grow what is not in it.
    shrink = (steps < 0)[:, None, None, None, None]
    resized = grown_by(mask ^ shrink, steps.abs(), most) ^ shrink
    left = resized.flatten(1).any(dim=1)[:, None, None, None, None]
    return torch.where(left, resized, mask)


def highest_near(values: Tensor, radius: int) -> Tensor:
    """The highest value in the cube of ±`radius` voxels around each voxel, (..., z, y, x)."""
    for dim in AXES:
        rest = values.shape[dim] - 1
        for _ in range(radius):
            higher = values.clone()
            for source, target in ((0, 1), (1, 0)):
                part = higher.narrow(dim, target, rest)
                torch.maximum(part, values.narrow(dim, source, rest), out=part)
            values = higher
    return values
