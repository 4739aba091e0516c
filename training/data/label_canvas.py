"""A label map under construction: structures by name, and painting of unlabelled voxels.

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
    """Labels, uint8 (z, y, x) on an isotropic grid, with their names; `paint` never overwrites a label."""

    def __init__(self, labels: NDArray[np.uint8], names: dict[int, str], spacing: float) -> None:
        self.labels, self.names, self.spacing = labels, names, spacing

    @property
    def free(self) -> Mask:
        """The unlabelled voxels."""
        return self.labels == 0

    def mask(self, *patterns: str) -> Mask:
        """The voxels of structures whose names match a pattern, in which * stands for any characters."""
        values = [v for v, name in self.names.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
        return np.isin(self.labels, values) if values else np.zeros(self.labels.shape, bool)

    def value(self, name: str) -> int:
        """The label value of a name; a new name gets a new value."""
        for value, known in self.names.items():
            if known == name:
                return value
        value = max(self.names, default=0) + 1
        self.names[value] = name
        return value

    def paint(self, name: str, where: Mask) -> None:
        """Label the unlabelled voxels of the mask."""
        self.labels[where & self.free] = self.value(name)

    def replace(self, name: str, where: Mask) -> None:
        """Label all voxels of the mask."""
        self.labels[where] = self.value(name)

    def pad(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
        """Pad by unlabelled voxels (z, y, x)."""
        self.labels = np.pad(self.labels, list(zip(before, after, strict=True)))

    def crop(self, margin: int) -> None:
        """Crop to the labelled box with a margin in voxels."""
        found = [np.flatnonzero(self.labels.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(max(int(at[0]) - margin, 0), int(at[-1]) + 1 + margin) for at in found)
        self.labels = np.ascontiguousarray(self.labels[box])

    def near(self, mask: Mask, distance: float) -> Mask:
        """Voxels within `distance` mm of the mask, the mask included."""
        return self.distance_to(mask) <= distance

    def distance_to(self, mask: Mask) -> NDArray[np.float32]:
        """Distance to the mask in mm; very large for an empty mask."""
        if not mask.any():
            return np.full(mask.shape, 1e6, np.float32)
        return np.asarray(edt.edt(np.ascontiguousarray(~mask)) * self.spacing, np.float32)

    def depth(self, mask: Mask) -> NDArray[np.float32]:
        """Distance in mm from each voxel of the mask to its surface; the border of the volume is no surface."""
        return np.asarray(edt.edt(np.ascontiguousarray(mask), black_border=False) * self.spacing, np.float32)

    def smoothed(self, mask: Mask, deviation: float) -> Mask:
        """The mask smoothed by a Gaussian of `deviation` mm."""
        return gaussian_filter(mask.astype(np.float32), deviation / self.spacing, mode="nearest") > 0.5

    def across(self, heights: NDArray[np.float32], known: Mask, deviation: float) -> NDArray[np.float32]:
        """Interpolate a map, known in some places, by Gaussian weights of `deviation` mm."""
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
    """The mask with holes filled, in 3D and in all slices across the given axes."""
    result = binary_fill_holes(mask)
    for axis in axes:
        for index in np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))):
            at = (slice(None),) * axis + (index,)
            result[at] |= binary_fill_holes(mask[at])
    return result
