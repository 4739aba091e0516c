"""Random draws on the device: numbers, categories by their weights, and voxels of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Generator = torch.Generator | None
"""A generator on the device of the tensors; None is PyTorch's default generator."""


def uniform(count: int, generator: Generator, device: torch.device, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(count,) float32 from `low` to below `high`."""
    return torch.rand(count, generator=generator, device=device) * (high - low) + low


def whole(count: int, generator: Generator, device: torch.device, low: int, high: int) -> Tensor:
    """(count,) int64 from `low` to `high`, both included."""
    return torch.randint(low, high + 1, (count,), generator=generator, device=device)


def directions(count: int, generator: Generator, device: torch.device) -> Tensor:
    """(count, 3) float32: unit vectors, uniformly distributed over directions."""
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, device=device), dim=1)


def kinds(
    shares: Mapping[str, float], known: Sequence[str], count: int, generator: Generator, device: torch.device
) -> Tensor:
    """(count,) int64: indices into `known`, each drawn with a probability proportional to its share.

    Raises:
        ValueError: a name is not known, a share is negative, or no share is above 0.

    """
    if unknown := set(shares) - set(known):
        raise ValueError(f"{sorted(unknown)} cannot be drawn; known are {', '.join(known)}.")
    weights = [float(shares.get(name, 0.0)) for name in known]
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError(f"Shares {dict(shares)} must be 0 or more, and one must be above 0.")
    number = uniform(count, generator, device, high=sum(weights))
    drawn = torch.zeros(count, dtype=torch.int64, device=device)
    last = max(index for index, weight in enumerate(weights) if weight > 0)
    below = 0.0
    for index, weight in enumerate(weights[:last]):
        below += weight
        # Every bound that is reached leads to the next name; a name without a share has the bound of the next.
        drawn = drawn.masked_fill(number >= below, index + 1)
    return drawn


def voxels(allowed: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels of sets, by their rank.

    Args:
        allowed: bool, (b, 1, z, y, x).
        rank: (b,) float, from 0 for the first voxel of a set in array order to below 1 for its last.

    Returns:
        Positions (b, 3) int64, z, y, x, which are 0 where a set is empty, and (b,) bool, whether it is not.

    """
    batch, _, depth, height, width = allowed.shape
    rows = allowed.reshape(batch, depth * height, width)
    up_to = rows.sum(dim=2).cumsum(dim=1)
    total = up_to[:, -1]
    wanted = torch.minimum((rank * total).long(), total - 1)
    row = (up_to <= wanted[:, None]).sum(dim=1).clamp(max=depth * height - 1)
    chosen = rows.gather(1, row[:, None, None].expand(-1, 1, width))[:, 0]
    before = up_to.gather(1, row[:, None])[:, 0] - chosen.sum(dim=1)
    x = (chosen.cumsum(dim=1) <= (wanted - before)[:, None]).sum(dim=1).clamp(max=width - 1)
    there = total > 0
    y, z = row.remainder(height), row.div(height, rounding_mode="floor")
    return torch.stack([z, y, x], dim=1) * there[:, None], there


def by_patch(values: Tensor) -> Tensor:
    """(b,) as (b, 1, 1, 1, 1), to broadcast over patches."""
    return values[:, None, None, None, None]
