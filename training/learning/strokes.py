"""Simulated scribbles, boxes and lassos on the device, as prompt maps of the network.

A scribble is a row of clicks in the map of its sign. A box or a lasso is a previous mask that is 0.5 inside, without
clicks. Values above 0.5 in the previous mask mean "segmented", so 0.5 means "the structure is somewhere in here".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.learning import draws
from training.learning.draws import Generator
from training.learning.morphology import grown_by

UNSURE = 0.5
LENGTHS_MM = (20.0, 60.0)
"""mm. Range of the length of scribbles."""
BEND = 0.35
"""Standard deviation of the change of a scribble's unit direction vector at each voxel."""
LOOSE = 3
"""Voxels. Largest margin of a box or a lasso around the structure."""
LASSO_SMOOTHING = 5
"""Voxels. Side of the square of the majority filter that smooths a lasso."""


class Scribbles(NamedTuple):
    """At most one scribble in each patch of a batch.

    Attributes:
        path: (b, n, 3) int64: voxels z, y, x, each beside the one before or, after the end, the last one again.
        sign: (b,) bool: True is positive.
        there: (b,) bool: False where a patch has no scribble; its path and sign are then meaningless.

    """

    path: Tensor
    sign: Tensor
    there: Tensor

    def points(self, shape: Sequence[int]) -> Tensor:
        """(b, 1, z, y, x) bool: the voxels of the scribbles in patches of a shape (z, y, x)."""
        batch = len(self.path)
        points = torch.zeros(batch, math.prod(shape), dtype=torch.bool, device=self.path.device)
        held = self.there[:, None].expand(-1, self.path.shape[1])
        return points.scatter(1, _flat(self.path, shape), held).view(batch, 1, *shape)


@torch.no_grad()
def scribbles(
    region: Tensor,
    sign: Tensor,
    generator: Generator = None,
    *,
    spacing: float = 3.0,
    start: Tensor | None = None,
    lengths: tuple[float, float] = LENGTHS_MM,
) -> Scribbles:
    """Curved paths through a region, which keep their direction and turn where the region ends.

    Args:
        region: bool, (b, 1, z, y, x): the structure, or where it is wrong (`clicks.error_region`). Paths stay inside.
        sign: (b,) bool, passed on.
        generator: draws where paths start, their lengths and turns.
        spacing: mm of a voxel's side.
        start: (b, 3) int64, z, y, x: where paths start, such as the position of a click into the region; drawn
            uniformly from the region if None. A path that starts outside the region steps into it, or ends at once.
        lengths: mm, shortest and longest. A path ends before if it has no voxel of the region beside it.

    Raises:
        ValueError: `lengths` do not rise from above 0, or `spacing` is not above 0.

    """
    shortest, longest = lengths
    if not (0 < shortest <= longest and spacing > 0):
        raise ValueError(f"Lengths {lengths} mm must rise from above 0, and a voxel of {spacing} mm must be above 0.")
    batch, device = len(region), region.device
    position, there = draws.voxels(region, draws.uniform(batch, generator, device))
    if start is not None:
        position = start
    # Padding by one voxel outside the region replaces a check whether a step leaves the patch.
    rimmed = F.pad(region, (1,) * 6)
    shape = rimmed.shape[2:]
    rimmed = rimmed.flatten(1)
    around = _neighbours(device)
    steps = _flat(around, shape)
    lengths_of_steps = around.float().norm(dim=1)
    rays = around / lengths_of_steps[:, None]
    left = draws.uniform(batch, generator, device, shortest / spacing, longest / spacing)
    heading = draws.directions(batch, generator, device)
    max_steps = math.ceil(longest / spacing)  # no step is shorter than a voxel
    turns = torch.randn(max_steps, batch, 3, generator=generator, device=device) * BEND
    here = _flat(position + 1, shape)
    path = [here]
    for turn in turns.unbind():
        free = rimmed.gather(1, here[:, None] + steps)
        wanted = heading + turn
        step = (wanted @ rays.T).masked_fill(~free, -math.inf).argmax(dim=1)
        here = here + steps.index_select(0, step) * (free.any(dim=1) & (left > 0))
        left = left - lengths_of_steps.index_select(0, step)
        heading = F.normalize(wanted + rays.index_select(0, step), dim=1)
        path.append(here)
    return Scribbles(_voxel(torch.stack(path, dim=1), shape) - 1, sign, there)


@torch.no_grad()
def boxes(truth: Tensor, generator: Generator = None, *, flat_share: float = 0.5) -> Tensor:
    """The interior of a box around each structure, or around its outline on one slice; see `unsure`.

    Each side lies 0 to `LOOSE` voxels outside the structure.

    Args:
        truth: bool, (b, 1, n, n, n). Patches without foreground get an empty interior.
        generator: draws whether a box is flat, its slice and its sides.
        flat_share: share of boxes on one slice.

    Returns:
        bool, (b, 1, n, n, n).

    """
    batch, device, size = len(truth), truth.device, truth.shape[-1]
    axis, slab = _slabs(truth, generator)
    flat = draws.uniform(batch, generator, device) < flat_share
    held = truth[:, 0] & (slab | ~flat[:, None, None, None])
    rows, columns = held.any(dim=3), held.any(dim=2)
    index = torch.arange(size, device=device)
    sides = []
    for dim, hit in enumerate((rows.any(dim=2), rows.any(dim=1), columns.any(dim=1))):
        loose = ~(flat & (axis == dim))
        first = index.expand(batch, -1).masked_fill(~hit, size).amin(dim=1)
        last = index.expand(batch, -1).masked_fill(~hit, -1).amax(dim=1)
        first = first - draws.whole(batch, generator, device, 0, LOOSE) * loose
        last = last + draws.whole(batch, generator, device, 0, LOOSE) * loose
        sides.append((index >= first[:, None]) & (index <= last[:, None]) & hit.any(dim=1)[:, None])
    z, y, x = sides
    return (z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :])[:, None]


@torch.no_grad()
def lassos(truth: Tensor, generator: Generator = None) -> Tensor:
    """The interior of a loose outline of each structure on one slice; see `unsure`.

    The outline of the structure is widened by 1 to `LOOSE` voxels and smoothed, and its holes are filled.

    Args:
        truth: bool, (b, 1, n, n, n). Patches without foreground get an empty interior.
        generator: draws the slices and how loose the lines are.

    Returns:
        bool, (b, 1, n, n, n).

    """
    batch, device = len(truth), truth.device
    axis, slab = _slabs(truth, generator)
    held = truth[:, 0] & slab
    pictures = torch.stack([held.any(dim=dim) for dim in (1, 2, 3)], dim=1)  # along z, y, x
    picture = pictures.gather(1, axis[:, None, None, None].expand(-1, 1, *pictures.shape[2:]))
    wide = grown_by(picture, draws.whole(batch, generator, device, 1, LOOSE), LOOSE, axes=(-2, -1))
    filled = wide | _enclosed(wide)
    majority = F.avg_pool2d(filled.float(), LASSO_SMOOTHING, stride=1, padding=LASSO_SMOOTHING // 2) > 0.5
    line = (majority | picture)[:, 0]
    along = axis[:, None, None, None]
    interior = ((along == 0) & line[:, None]) | ((along == 1) & line[:, :, None]) | ((along == 2) & line[:, :, :, None])
    return (interior & slab)[:, None]


def unsure(interior: Tensor) -> Tensor:
    """The previous mask of a box or a lasso: float32, 0.5 inside and 0 outside."""
    return interior.float() * UNSURE


def _slabs(truth: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """An axis (b,) and the slice (b, n, n, n) across it through a voxel of the structure; larger slices come often.

    Raises:
        ValueError: the patches are not cubes.

    """
    batch, device, size = len(truth), truth.device, truth.shape[-1]
    if truth.shape[2:] != (size, size, size):
        raise ValueError(f"Patches of {tuple(truth.shape[2:])} voxels must be cubes to be cut along any axis.")
    axis = draws.whole(batch, generator, device, 0, 2)
    voxel, _ = draws.voxels(truth, draws.uniform(batch, generator, device))
    chosen = voxel.gather(1, axis[:, None])
    on = torch.arange(size, device=device) == chosen
    along = axis[:, None, None, None]
    z, y, x = on[:, :, None, None], on[:, None, :, None], on[:, None, None, :]
    return axis, ((along == 0) & z) | ((along == 1) & y) | ((along == 2) & x)


def _enclosed(picture: Tensor) -> Tensor:
    """Pixels with pixels of the set in all four directions: the holes of the set, and little more."""
    enclosed = torch.ones_like(picture)
    for dim in (-2, -1):
        enclosed &= picture.cumsum(dim=dim) > 0
        enclosed &= picture.flip(dim).cumsum(dim=dim).flip(dim) > 0
    return enclosed


def _neighbours(device: torch.device) -> Tensor:
    """(26, 3) int64: the steps from a voxel to those around it."""
    step = torch.arange(-1, 2, device=device)
    steps = torch.cartesian_prod(step, step, step)
    return torch.cat([steps[:13], steps[14:]])  # without the step to the voxel itself


def _flat(position: Tensor, shape: Sequence[int]) -> Tensor:
    """Indices of voxels (..., 3) in array order."""
    z, y, x = position.unbind(-1)
    return (z * shape[1] + y) * shape[2] + x


def _voxel(index: Tensor, shape: Sequence[int]) -> Tensor:
    """The voxels (..., 3) of indices in array order."""
    row = index.div(shape[2], rounding_mode="floor")
    z = row.div(shape[1], rounding_mode="floor")
    return torch.stack([z, row.remainder(shape[1]), index.remainder(shape[2])], dim=-1)
