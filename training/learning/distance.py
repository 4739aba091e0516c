"""Exact Euclidean distance transform, axis by axis, in integers (Saito and Toriwaki, 1994).

Squared distances between voxels are integers that fit into 16 bits, so that vector instructions process many at once.
The running time does not depend on the values, and no value leaves the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_AXIS = 256
"""Voxels of the longest axis for which all sums stay below 2¹⁵."""
FAR = 1 << 14
"""Value of `squared_distance` where no point is within reach."""
MAX_REACH = 73
"""Voxels. Longest reach; three times its square stays below `FAR`."""


@torch.no_grad()
def squared_depth(mask: Tensor) -> Tensor:
    """Squared distance, in voxels, of each voxel of a set to the nearest voxel outside it; 0 outside the set.

    Voxels beyond the array count as outside. The distances equal those of `edt.edt(mask, black_border=True)`.

    Args:
        mask: bool, (..., z, y, x); every leading index is a set of its own.

    Returns:
        int16, the same shape.

    Raises:
        ValueError: an axis is longer than `MAX_AXIS` voxels.

    """
    if max(mask.shape[-3:]) > MAX_AXIS:
        raise ValueError(f"Axes of {tuple(mask.shape[-3:])} voxels are too long: at most {MAX_AXIS}. Crop the array.")
    depths = [_squared_depth(part) for part in _parts(mask.reshape(-1, *mask.shape[-3:]))]
    return torch.cat(depths).view(mask.shape)


@torch.no_grad()
def squared_distance(points: Tensor, reach: int) -> Tensor:
    """Squared distance, in voxels, of each voxel to the nearest point whose cube of ±`reach` voxels holds the voxel.

    Args:
        points: bool, (..., z, y, x): where the points are.
        reach: half the side of a point's cube, in voxels.

    Returns:
        int16, the same shape; `FAR` or more where no cube is.

    Raises:
        ValueError: `reach` is above `MAX_REACH`.

    """
    if reach > MAX_REACH:
        raise ValueError(f"A reach of {reach} voxels is too long: at most {MAX_REACH}.")
    return torch.cat([_squared_distance(part, reach) for part in _parts(points.reshape(-1, *points.shape[-3:]))]).view(
        points.shape
    )


def _parts(masks: Tensor) -> tuple[Tensor, ...]:
    """On a CPU one array after the other, which its cache holds; on a GPU all at once."""
    return masks.split(1 if masks.device.type == "cpu" else max(len(masks), 1))


def _squared_depth(mask: Tensor) -> Tensor:
    depth = _depth_along_x(mask)
    depth *= depth
    spare = torch.empty_like(depth)
    for dim in (-2, -3):
        depth = _lowest_sum(depth, dim, spare)
    return depth


def _to_border(size: int, device: torch.device) -> Tensor:
    """Distance of each position of an axis from the first position beyond the axis."""
    steps = torch.arange(1, size + 1, dtype=torch.int16, device=device)
    return torch.minimum(steps, steps.flip(0))


def _depth_along_x(mask: Tensor) -> Tensor:
    """Distance to the nearest voxel outside in the same row: steps of 1, 2, 4, ... voxels add up to every length.

    A step is only taken where both of its ends lie in the array; elsewhere the border is at least as near.
    """
    size = mask.shape[-1]
    depth = mask.to(torch.int16) * _to_border(size, mask.device)
    step = 1
    while 2 * step < size:
        nearest = torch.minimum(depth[..., : size - 2 * step], depth[..., 2 * step :])
        nearest += step
        inner = depth[..., step : size - step]
        torch.minimum(inner, nearest, out=inner)
        step *= 2
    return depth


def _lowest_sum(squares: Tensor, dim: int, spare: Tensor) -> Tensor:
    """The minimum of squares[p + k] + k² over all k; beyond the array, squares are 0.

    k is only tried where both p - k and p + k lie in the array; elsewhere the border is at least as near.
    """
    size = squares.shape[dim]
    border = _to_border(size, squares.device) ** 2
    lowest = torch.minimum(squares, border.view(-1, *(1,) * (-dim - 1)))
    for k in range(1, (size + 1) // 2):
        inner = size - 2 * k
        candidate = spare.narrow(dim, 0, inner)
        torch.minimum(squares.narrow(dim, 0, inner), squares.narrow(dim, 2 * k, inner), out=candidate)
        candidate += k * k
        target = lowest.narrow(dim, k, inner)
        torch.minimum(target, candidate, out=target)
    return lowest


def _squared_distance(points: Tensor, reach: int) -> Tensor:
    distance = (~points).to(torch.int16) * FAR
    spare = torch.empty_like(distance)
    for dim in (-1, -2, -3):
        size = distance.shape[dim]
        beyond = torch.full_like(distance.narrow(dim, 0, 1), FAR)
        beyond = beyond.expand(*(reach if axis == dim else -1 for axis in range(-distance.ndim, 0)))
        padded = torch.cat([beyond, distance, beyond], dim=dim)
        for k in range(1, reach + 1):
            torch.minimum(padded.narrow(dim, reach - k, size), padded.narrow(dim, reach + k, size), out=spare)
            spare += k * k
            torch.minimum(distance, spare, out=distance)
    return distance
