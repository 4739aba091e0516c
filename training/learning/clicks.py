"""Clicks simulated for a whole batch on the device: the rule of `CTSAM3DLib.clicks.simulation`, and as people click.

People do not draw uniformly from a structure: they aim at its middle, at its border, beside it, at its thin parts, and
some click twice in one place. `first_clicks` mixes these manners by their shares.
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
"""How a structure is first clicked: anywhere in it, where it is deepest, at most `BORDER` voxels inside, off by
`OFF` voxels, in a part half as thick as the thickest or less, or anywhere and then once more beside that."""
BORDER = 2
OFF = 1.0
"""In voxels: 3 mm at the bundled model's spacing. Such a click may land just outside the structure."""
THIN = 0.5
BESIDE = 2
"""How far, in voxels on each axis, the second click of two in one place is from the first at most."""


class Clicks(NamedTuple):
    """At most one click in each patch of a batch.

    Attributes:
        position: (b, 3) int64: voxels z, y, x.
        sign: (b,) bool: True is positive.
        there: (b,) bool: False where a patch has no click; its position and sign then say nothing.

    """

    position: Tensor
    sign: Tensor
    there: Tensor


def error_region(truth: Tensor, prediction: Tensor, sign: Tensor) -> Tensor:
    """What was missed in patches whose `sign` is positive, what is in excess in the others.

    Args:
        truth, prediction: bool, (b, 1, z, y, x).
        sign: bool, (b,).

    Returns:
        bool, (b, 1, z, y, x).

    """
    # Wrong is where both differ; of that, what is missed lies in the truth, and what is in excess does not.
    return (truth ^ prediction) & ~(truth ^ by_patch(sign))


@torch.no_grad()
def next_clicks(truth: Tensor, prediction: Tensor, jitter: float | Tensor = 0.0, generator: Generator = None) -> Clicks:
    """Where a user who knows the truth would click next; the rule of `CTSAM3DLib.clicks.simulation.next_click`.

    False negatives and false positives are measured apart by their distance to the nearest voxel that is not in their
    set, the outside of the array included; the deeper set is clicked, false negatives at a draw. Patches whose
    prediction is right everywhere get no click.

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
    """(b,) int16: the least whole square whose root is above a depth (b,); no depth is above half a patch."""
    halves = (max(shape[2:]) + 1) // 2
    roots = torch.arange(halves**2 + 1, device=depth.device).float().sqrt()
    return (roots <= depth[:, None]).sum(dim=1).to(torch.int16)


@torch.no_grad()
def first_clicks(truth: Tensor, shares: Mapping[str, float], generator: Generator = None) -> tuple[Clicks, Clicks]:
    """The first click of each patch, positive, and the second one of those patches that are clicked twice in one place.

    Args:
        truth: bool, (b, 1, z, y, x). Patches without foreground get no click.
        shares: of the `MANNERS`, by name; their sum need not be 1. The manner is drawn for each patch. Patches whose
            structure has no thin part are clicked uniformly instead.
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
    """The voxels that may be clicked, by manner, where a manner does not allow all of the structure."""
    squares = squared_depth(truth)
    deepest = by_patch(squares.flatten(1).amax(dim=1))
    # In a thin part no voxel nearby is deeper, which tells it from the border of a thick one.
    ridge = squares == highest_near(squares, 2)
    return {
        "middle": truth & (squares == deepest),
        "border": truth & (squares <= BORDER**2),
        "thin": truth & ridge & (squares <= deepest * THIN**2),
    }


def _inside(position: Tensor, truth: Tensor) -> Tensor:
    """Positions moved into the patch, on each axis."""
    return torch.stack(
        [axis.clamp(0, size - 1) for axis, size in zip(position.unbind(1), truth.shape[2:], strict=True)], dim=1
    )


def _around(truth: Tensor, position: Tensor) -> Tensor:
    """The voxels of the structure beside a voxel, without it."""
    steps = [
        (torch.arange(size, device=truth.device) - axis[:, None]).abs()
        for axis, size in zip(position.unbind(1), truth.shape[2:], strict=True)
    ]
    z, y, x = steps[0][:, None, :, None, None], steps[1][:, None, None, :, None], steps[2][:, None, None, None, :]
    itself = (z == 0) & (y == 0) & (x == 0)
    return truth & (z <= BESIDE) & (y <= BESIDE) & (x <= BESIDE) & ~itself
