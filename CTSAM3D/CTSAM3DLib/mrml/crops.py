"""Masks as cropped parts of a segmentation's reference grid, and what changes from one to the next. Numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Position
from CTSAM3DLib.imaging.geometry import Box, Geometry, filled_box

Ijk = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Crop:
    """A mask, 0 or 1, in a part of the reference grid (z, y, x) whose first voxel is `first` (i, j, k) of the grid."""

    voxels: NDArray[np.uint8]
    first: Ijk = (0, 0, 0)

    @classmethod
    def empty(cls) -> Crop:
        """No voxel."""
        return cls(np.zeros((0, 0, 0), np.uint8))

    def on(self, first: Ijk, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The mask in the part of `shape` (z, y, x) from voxel `first` (i, j, k); zero where this one ends.

        Not to be written to: it may be this mask itself.
        """
        if first == self.first and shape == self.voxels.shape:
            return self.voxels
        moved = np.zeros(shape, np.uint8)
        of_moved, of_own = [], []
        for own, other, size, wanted in zip(self.first[::-1], first[::-1], self.voxels.shape, shape, strict=True):
            start = max(own, other)
            stop = max(min(own + size, other + wanted), start)
            of_moved.append(slice(start - other, stop - other))
            of_own.append(slice(start - own, stop - own))
        moved[tuple(of_moved)] = self.voxels[tuple(of_own)]
        return moved

    def trimmed(self) -> Crop:
        """The same mask in the smallest part of the grid."""
        box = filled_box(self.voxels)
        return placed(self.voxels[box], box, self.first)


def union(*crops: Crop) -> tuple[Ijk, tuple[int, int, int]]:
    """The first voxel (i, j, k) and the shape (z, y, x) of the smallest part of the grid around these crops."""
    filled = [crop for crop in crops if crop.voxels.size]
    if not filled:
        return (0, 0, 0), (0, 0, 0)
    low = np.min([crop.first for crop in filled], axis=0)
    high = np.max([np.add(crop.first, crop.voxels.shape[::-1]) for crop in filled], axis=0)
    i, j, k = (int(n) for n in low)
    x, y, z = (int(n) for n in high - low)
    return (i, j, k), (z, y, x)


@dataclass(frozen=True, eq=False)
class Change:
    """What a prediction does to a segment."""

    added: Crop
    removed: Crop
    voxel_ml: float

    @classmethod
    def between(cls, before: Crop, after: Crop, voxel_ml: float) -> Change:
        """The difference of a segment's masks; `voxel_ml` is the volume of a voxel."""
        first, shape = union(before, after)
        old, new = before.on(first, shape), after.on(first, shape)
        added, removed = (new > old).view(np.uint8), (old > new).view(np.uint8)
        return cls(Crop(added, first).trimmed(), Crop(removed, first).trimmed(), voxel_ml)

    def found_in(self, mask: Crop) -> Change:
        """What of this change has come true in the segment's mask; the editable area may have kept the rest away."""
        added = self.added.voxels & mask.on(self.added.first, self.added.voxels.shape)
        kept = mask.on(self.removed.first, self.removed.voxels.shape)
        removed = (self.removed.voxels > kept).view(np.uint8)
        return Change(Crop(added, self.added.first), Crop(removed, self.removed.first), self.voxel_ml)

    @cached_property
    def added_ml(self) -> float:
        """The volume that is added."""
        return float(np.count_nonzero(self.added.voxels) * self.voxel_ml)

    @cached_property
    def removed_ml(self) -> float:
        """The volume that is removed."""
        return float(np.count_nonzero(self.removed.voxels) * self.voxel_ml)


def keep_rest(
    before: Crop, after: Crop, points: Iterable[Position], radius_mm: float, geometry: Geometry, first: Ijk
) -> Crop:
    """`after` within a radius of any of the points (LPS mm), `before` everywhere else.

    Voxel (0, 0, 0) of `geometry` is voxel `first` of the reference grid.
    """
    balls = [placed(*_ball(point, radius_mm, geometry), first) for point in points]
    start, shape = union(before, *balls)
    kept = before.on(start, shape).copy()
    for ball in balls:
        z, y, x = (
            slice(own - other, own - other + size)
            for own, other, size in zip(ball.first[::-1], start[::-1], ball.voxels.shape, strict=True)
        )
        part = kept[z, y, x]
        part[:] = np.where(ball.voxels, after.on(ball.first, ball.voxels.shape), part)
    return Crop(kept, start)


def placed(mask: NDArray[np.uint8], box: Box, first: Ijk) -> Crop:
    """A mask in a box of a grid whose voxel (0, 0, 0) is voxel `first` of the reference grid."""
    i, j, k = first
    z, y, x = box
    return Crop(mask, (i + x.start, j + y.start, k + z.start))


def _ball(point: Position, radius_mm: float, geometry: Geometry) -> tuple[NDArray[np.uint8], Box]:
    """Which voxels lie within the radius, in the box around them."""
    steps_lps = np.linalg.inv(geometry.ijk_to_lps[:3, :3])
    reach = radius_mm * np.linalg.norm(steps_lps, axis=1)  # in voxels along i, j, k
    center = geometry.to_ijk(point)
    box = geometry.box_around(geometry.to_lps([center - reach, center + reach]))
    part = geometry.crop(box)
    offsets = np.indices(part.shape, sparse=True)
    squares = np.zeros(part.shape, np.float32)
    for axis in range(3):
        along = part.ijk_to_lps[axis]
        distance = offsets[2] * along[0] + offsets[1] * along[1] + offsets[0] * along[2] + (along[3] - point[axis])
        squares += (distance * distance).astype(np.float32)
    return (squares <= radius_mm**2).astype(np.uint8), box
