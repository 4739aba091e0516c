"""Simulated starting masks on the device: previous masks of patches before the first click, to be corrected.

People correct rough painting, thresholds, masks of other programs, and growth from a neighbouring patch that is too
small, too large or shifted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.learning import draws
from training.learning.draws import Generator, by_patch
from training.learning.morphology import grown_by, resized_by

MANNERS = ("none", "paint", "threshold", "moved", "cut", "joined", "answer")
"""Models of starting masks: none, a few painted balls, voxels of similar intensity, the structure moved and resized,
the structure without a part, the structure with a part beside it, and another model's mask."""
CONFIDENCE = (0.7, 1.0)
"""Range of the value inside a mask, drawn for each patch."""
BALLS = 5
STRAY = 2
"""Voxels on each axis. Largest distance of a ball's centre from a voxel of the structure."""
BALL_SIZES = (0.3, 0.9)
"""Range of radii of balls, relative to the radius of a ball of the structure's volume."""
MIN_BALL = 1.5
WINDOWS_HU = (20.0, 100.0)
"""HU. Range of the half-width of a threshold's window around the structure's mean intensity."""
MARGIN = 6
"""Voxels on each axis. Largest margin of a threshold's box around the structure."""
SHIFT = 6
RESIZING = 3
PIECE = 5
"""Voxels. Thickness of a part beside the structure."""


@torch.no_grad()
def starting_masks(
    truth: Tensor,
    hu: Tensor,
    shares: Mapping[str, float],
    generator: Generator = None,
    answer: Tensor | None = None,
) -> Tensor:
    """Draw a starting mask for each patch.

    Args:
        truth: bool, (b, 1, z, y, x). Patches without foreground get no mask, except from another model.
        hu: (b, 1, z, y, x): the CT in HU, of any real type.
        shares: sampling weights of the `MANNERS`, by name; they need not sum to 1. The manner is drawn for each patch.
            Every manner with a weight above 0 is computed for all patches.
        generator: draws the manner and everything else.
        answer: probabilities of another model, (b, 1, z, y, x), needed if their weight is above 0.

    Returns:
        float32, (b, 1, z, y, x): 0 outside, a value from `CONFIDENCE` inside; another model's lower values are kept.

    Raises:
        ValueError: a manner is not known, a share is negative, no share is above 0, or the answer is missing.

    """
    batch, device = len(truth), truth.device
    manner = draws.kinds(shares, MANNERS, batch, generator, device)
    masks = torch.zeros_like(truth, dtype=torch.float32)
    for index, name in enumerate(MANNERS):
        if name == "none" or shares.get(name, 0.0) <= 0:
            continue
        if name == "paint":
            mask = rough_paint(truth, generator)
        elif name == "threshold":
            mask = threshold(truth, hu, generator)
        elif name == "moved":
            mask = moved(truth, generator)
        elif name in ("cut", "joined"):
            side = _side(truth, generator)
            mask = truth & side if name == "cut" else truth | (_larger(truth) & side)
        elif answer is None:
            raise ValueError(
                "The share of answers is above 0, but there is no answer; pass one or leave the share out."
            )
        else:
            mask = answer
        masks = torch.where(by_patch(manner == index), mask.float(), masks)
    confidence = draws.uniform(batch, generator, device, *CONFIDENCE)
    # No confidence is below 0.5, so the mask at threshold 0.5 does not change.
    return torch.minimum(masks, by_patch(confidence))


@torch.no_grad()
def rough_paint(truth: Tensor, generator: Generator = None) -> Tensor:
    """The union of `BALLS` balls in and around each structure, which may overlap; bool as `truth`."""
    batch, device = len(truth), truth.device
    radius = (truth.flatten(1).sum(dim=1) * (3 / (4 * torch.pi))) ** (1 / 3)
    painted = torch.zeros_like(truth)
    for _ in range(BALLS):
        middle, there = draws.voxels(truth, draws.uniform(batch, generator, device))
        middle = middle + torch.randint(-STRAY, STRAY + 1, middle.shape, generator=generator, device=device)
        size = (radius * draws.uniform(batch, generator, device, *BALL_SIZES)).clamp(min=MIN_BALL)
        z, y, x = (
            (torch.arange(n, device=device) - axis[:, None]).float() ** 2
            for n, axis in zip(truth.shape[2:], middle.unbind(1), strict=True)
        )
        squares = (z[:, :, None, None] + y[:, None, :, None]) + x[:, None, None, :]
        painted |= (squares <= (size**2)[:, None, None, None])[:, None] & by_patch(there)
    return painted


@torch.no_grad()
def threshold(truth: Tensor, hu: Tensor, generator: Generator = None) -> Tensor:
    """Voxels near the mean intensity of each structure, in a box around it; bool as `truth`.

    Args:
        truth: bool, (b, 1, z, y, x).
        hu: (b, 1, z, y, x), of any real type.
        generator: draws the width of the window and the margin of the box.

    """
    batch, device = len(truth), truth.device
    hu = hu.float()
    count = truth.flatten(1).sum(dim=1).clamp(min=1)
    mean = (hu * truth).flatten(1).sum(dim=1) / count
    width = draws.uniform(batch, generator, device, *WINDOWS_HU)
    margin = draws.whole(batch, generator, device, 0, MARGIN)[:, None]
    rows, columns = truth[:, 0].any(dim=3), truth[:, 0].any(dim=2)
    z, y, x = (_widened(hit, margin) for hit in (rows.any(dim=2), rows.any(dim=1), columns.any(dim=1)))
    box = (z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :])[:, None]
    return ((hu - by_patch(mean)).abs() <= by_patch(width)) & box


@torch.no_grad()
def moved(truth: Tensor, generator: Generator = None) -> Tensor:
    """Each structure shifted by up to `SHIFT` voxels on each axis, then dilated or eroded by up to `RESIZING` voxels.

    A shift away from the patch's border leaves background there. Bool as `truth`.
    """
    batch, device = len(truth), truth.device
    shifted = truth
    for dim in (2, 3, 4):
        size = truth.shape[dim]
        shift = draws.whole(batch, generator, device, -SHIFT, SHIFT)
        source = torch.arange(size, device=device) - shift[:, None]
        inside = (source >= 0) & (source < size)
        along = [batch, 1, 1, 1, 1]
        along[dim] = size
        index = source.clamp(0, size - 1).view(along).expand_as(truth)
        shifted = shifted.gather(dim, index) & inside.view(along)
    return resized_by(shifted, draws.whole(batch, generator, device, -RESIZING, RESIZING), RESIZING)


def _widened(hit: Tensor, margin: Tensor) -> Tensor:
    """(b, n) bool: True from the first hit to the last, and `margin` (b, 1) beyond both."""
    index, size = torch.arange(hit.shape[1], device=hit.device), hit.shape[1]
    first = index.expand_as(hit).masked_fill(~hit, size).amin(dim=1, keepdim=True)
    last = index.expand_as(hit).masked_fill(~hit, -1).amax(dim=1, keepdim=True)
    return (index >= first - margin) & (index <= last + margin) & hit.any(dim=1, keepdim=True)


def _side(truth: Tensor, generator: Generator) -> Tensor:
    """A half-space bounded by a random plane through a voxel of each structure; bool as `truth`."""
    batch, device = len(truth), truth.device
    point, _ = draws.voxels(truth, draws.uniform(batch, generator, device))
    normal = draws.directions(batch, generator, device)
    z, y, x = (
        (torch.arange(n, device=device) - point[:, axis, None]) * normal[:, axis, None]
        for axis, n in enumerate(truth.shape[2:])
    )
    return ((z[:, :, None, None] + y[:, None, :, None]) + x[:, None, None, :] >= 0)[:, None]


def _larger(truth: Tensor) -> Tensor:
    return grown_by(truth, torch.full((len(truth),), PIECE, device=truth.device), PIECE)
