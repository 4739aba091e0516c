"""A label map that is being completed: structures by name, and tissue painted where nothing is yet.

Arrays are (z, y, x) with z up, y to the back and x to the patient's left; lengths are in mm. Runs on the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.morphology import convex_hull_image

Mask = NDArray[np.bool_]


class LabelCanvas:
    """Labels uint8 on an isotropic grid with their names; what is painted never covers what is there."""

    def __init__(self, labels: NDArray[np.uint8], names: dict[int, str], spacing: float) -> None:
        self.labels, self.names, self.spacing = labels, names, spacing

    @property
    def free(self) -> Mask:
        """Where nothing is yet."""
        return self.labels == 0

    def mask(self, *patterns: str) -> Mask:
        """Where structures lie whose names match one of the patterns, in which * is any characters."""
        values = [v for v, name in self.names.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
        return np.isin(self.labels, values) if values else np.zeros(self.labels.shape, bool)

    def value(self, name: str) -> int:
        """The value of a name, which is added where it is new."""
        for value, known in self.names.items():
            if known == name:
                return value
        value = max(self.names, default=0) + 1
        self.names[value] = name
        return value

    def paint(self, name: str, where: Mask) -> None:
        """Give the free voxels of the mask this name."""
        self.labels[where & self.free] = self.value(name)

    def replace(self, name: str, where: Mask) -> None:
        """Give all voxels of the mask this name."""
        self.labels[where] = self.value(name)

    def pad(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
        """Add free voxels around."""
        self.labels = np.pad(self.labels, list(zip(before, after, strict=True)))

    def crop(self, margin: int) -> None:
        """Drop what is farther than so many voxels from anything."""
        found = [np.flatnonzero(self.labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(max(int(at[0]) - margin, 0), int(at[-1]) + 1 + margin) for at in found)
        self.labels = np.ascontiguousarray(self.labels[box])

    def near(self, mask: Mask, distance: float) -> Mask:
        """What lies within so many mm of the mask, itself included."""
        return self.distance_to(mask) <= distance

    def distance_to(self, mask: Mask) -> NDArray[np.float32]:
        """mm to the mask; very far where it is empty."""
        if not mask.any():
            return np.full(mask.shape, 1e6, np.float32)
        return np.asarray(edt.edt(np.ascontiguousarray(~mask)) * self.spacing, np.float32)

    def depth(self, mask: Mask) -> NDArray[np.float32]:
        """mm from each voxel of the mask to its rim; where the volume ends, the mask goes on."""
        return np.asarray(edt.edt(np.ascontiguousarray(mask), black_border=False) * self.spacing, np.float32)

    def smoothed(self, mask: Mask, deviation: float) -> Mask:
        """The mask with a rounder surface."""
        return gaussian_filter(mask.astype(np.float32), deviation / self.spacing, mode="nearest") > 0.5

    def across(self, heights: NDArray[np.float32], known: Mask, deviation: float) -> NDArray[np.float32]:
        """A map (any axes) known in places, spread smoothly over all of it."""
        weight = gaussian_filter(known.astype(np.float32), deviation / self.spacing)
        total = gaussian_filter(np.where(known, heights, 0).astype(np.float32), deviation / self.spacing)
        fallback = heights[known].mean() if known.any() else 0.0
        return np.where(weight > 1e-4, total / np.maximum(weight, 1e-4), fallback).astype(np.float32)


def axial_hulls(mask: Mask) -> Mask:
    """The convex hull of each axial slice."""
    hulls = np.zeros_like(mask)
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        hulls[z] = convex_hull_image(mask[z]) if mask[z].sum() > 3 else mask[z]
    return hulls


def filled(mask: Mask, axes: Iterable[int] = ()) -> Mask:
    """The mask without holes: in space, and in all slices across the given axes."""
    result = binary_fill_holes(mask)
    for axis in axes:
        for index in np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))):
            at = (slice(None),) * axis + (index,)
            result[at] |= binary_fill_holes(mask[at])
    return result
