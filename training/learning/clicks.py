"""Click simulation for a whole batch on the device.

`next_clicks` follows the rule of `CTSAM3DLib.clicks.simulation`. `first_clicks` models how people click, by sampling
weights: at the middle of a structure, at its border, beside it, at its thin parts, or twice in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from training.learning import draws
from training.learning.distance import squared_depth
from training.learning.draws import Generator, by_patch
from training.learning.morphology import highest_near

MANNERS = ("uniform", "middle", "border", "off", "thin", "twice")
"""Models of first clicks: anywhere in the structure, where it is deepest, at most `BORDER` voxels inside, off by `OFF`
voxels, in a part at most half as thick as the thickest, or anywhere and then once more beside the first click."""
BORDER = 2
OFF = 1.0
"""Voxels (3 mm at the bundled model's spacing). Such a click may lie just outside the structure."""
THIN = 0.5
BESIDE = 2
"""Voxels on each axis. Largest distance between two clicks in one place."""


class Clicks(NamedTuple):
    """At most one click in each patch of a batch.

    Attributes:
        position: (b, 3) int64: voxels z, y, x.
        sign: (b,) bool: True is positive.
        there: (b,) bool: False where a patch has no click; its position and sign are then meaningless.

    """

    position: Tensor
    sign: Tensor
    there: Tensor


def error_region(truth: Tensor, prediction: Tensor, sign: Tensor) -> Tensor:
    """False negatives of patches whose `sign` is positive, false positives of the others.

    Args:
        truth, prediction: bool, (b, 1, z, y, x).
        sign: bool, (b,).

    Returns:
        bool, (b, 1, z, y, x).

    """
    # Errors are where both differ; false negatives lie in the truth, false positives do not.
    return (truth ^ prediction) & ~(truth ^ by_patch(sign))


@torch.no_grad()
def next_clicks(truth: Tensor, prediction: Tensor, jitter: float | Tensor = 0.0, generator: Generator = None) -> Clicks:
    """The next click of a user who knows the truth, by the rule of `CTSAM3DLib.clicks.simulation.next_click`.

    The depth of false negatives and of false positives is the distance to the nearest voxel outside the set, where
    voxels beyond the array count as outside. The deeper set is clicked, false negatives in a tie. Patches without
    errors get no click.

    Args:
        truth, prediction: bool, (b, 1, z, y, x); voxels are taken for cubes.
        jitter: 0 takes the deepest voxel (the first in array order among equals); above 0 draws uniformly among the
            voxels deeper than (1 - jitter) of the maximum. One number, or (b,) on the device.
        generator: draws one number for each patch.

    Raises:
        ValueError: the shapes differ.

    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"Truth {tuple(truth.shape)} and prediction {tuple(prediction.shape)} must have the same shape."
        )
    batch, device = len(truth), truth.device
    squares = squared_depth(torch.cat([truth & ~prediction, prediction & ~truth], dim=1))
    deepest = squares.flatten(2).amax(dim=2)
    positive = deepest[:, 0] >= deepest[:, 1]
    squares = torch.where(by_patch(positive), squares[:, :1], squares[:, 1:])
    highest = deepest.amax(dim=1)
    if not isinstance(jitter, Tensor):
        jitter = torch.full((batch,), jitter, device=device)
    drawn = jitter > 0
    least = torch.where(drawn, _first_above((1.0 - jitter) * highest.float().sqrt(), truth.shape), highest)
    allowed = squares >= by_patch(least.clamp(min=1))
    # Without jitter rank 0 is the first of the deepest voxels.
    position, there = draws.voxels(allowed, draws.uniform(batch, generator, device) * drawn)
    return Clicks(position, positive, there)


def _first_above(depth: Tensor, shape: torch.Size) -> Tensor:
    """(b,) int16: the smallest square number whose root exceeds a depth (b,); depths are at most half a patch."""
    halves = (max(shape[2:]) + 1) // 2
    roots = torch.arange(halves**2 + 1, device=depth.device).float().sqrt()
    return (roots <= depth[:, None]).sum(dim=1).to(torch.int16)


@torch.no_grad()
def first_clicks(truth: Tensor, shares: Mapping[str, float], generator: Generator = None) -> tuple[Clicks, Clicks]:
    """The first click of each patch, positive, and the second click of patches that are clicked twice in one place.

    Args:
        truth: bool, (b, 1, z, y, x). Patches without foreground get no click.
        shares: sampling weights of the `MANNERS`, by name; they need not sum to 1. The manner is drawn for each patch.
            Structures without a thin part are clicked uniformly instead.
        generator: draws the manner and the voxels.

    Raises:
        ValueError: a manner is not known, a share is negative, or no share is above 0.

    """
    batch, device = len(truth), truth.device
    manner = draws.kinds(shares, MANNERS, batch, generator, device)
    allowed = truth
    if any(shares.get(name, 0.0) > 0 for name in ("middle", "border", "thin")):
        for name, candidates in _places(truth).items():
            wanted = (manner == MANNERS.index(name)) & candidates.flatten(1).any(dim=1)
            allowed = torch.where(by_patch(wanted), candidates, allowed)
    position, there = draws.voxels(allowed, draws.uniform(batch, generator, device))
    off = draws.directions(batch, generator, device).mul(OFF).round().long()
    position = _inside(position + off * (manner == MANNERS.index("off"))[:, None], truth)
    second, beside = draws.voxels(_around(truth, position), draws.uniform(batch, generator, device))
    positive = torch.ones_like(there)
    twice = there & beside & (manner == MANNERS.index("twice"))
    return Clicks(position, positive, there), Clicks(second, positive, twice)


def _places(truth: Tensor) -> dict[str, Tensor]:
    """The voxels that may be clicked, for manners that do not allow the whole structure."""
    squares = squared_depth(truth)
    deepest = by_patch(squares.flatten(1).amax(dim=1))
    # In a thin part no voxel nearby is deeper, unlike at the border of a thick part.
    ridge = squares == highest_near(squares, 2)
    return {
        "middle": truth & (squares == deepest),
        "border": truth & (squares <= BORDER**2),
        "thin": truth & ridge & (squares <= deepest * THIN**2),
    }


def _inside(position: Tensor, truth: Tensor) -> Tensor:
    """Positions clamped to the patch."""
    return torch.stack(
        [axis.clamp(0, size - 1) for axis, size in zip(position.unbind(1), truth.shape[2:], strict=True)], dim=1
    )


def _around(truth: Tensor, position: Tensor) -> Tensor:
    """The voxels of the structure within `BESIDE` of a voxel, without the voxel."""
    steps = [
        (torch.arange(size, device=truth.device) - axis[:, None]).abs()
        for axis, size in zip(position.unbind(1), truth.shape[2:], strict=True)
    ]
    z, y, x = steps[0][:, None, :, None, None], steps[1][:, None, None, :, None], steps[2][:, None, None, None, :]
    itself = (z == 0) & (y == 0) & (x == 0)
    return truth & (z <= BESIDE) & (y <= BESIDE) & (x <= BESIDE) & ~itself
