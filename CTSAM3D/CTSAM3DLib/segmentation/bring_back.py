"""Resample a mask from the model grid back to the CT's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.resampling import as_image, interpolate
from CTSAM3DLib.segmentation.patch_grid import ModelGrid

_HALF = 127.5  # probability 0.5 of 0..255
_PARALLEL = 1e-3  # voxels by which parallel axes may diverge
_SLAB = 32  # slices resampled at a time, which bounds the memory


def bring_back(
    probability: NDArray[np.uint8], start_zyx: Sequence[int], grid: ModelGrid, geometry: Geometry
) -> tuple[NDArray[np.uint8], Box]:
    """Resample probabilities to a volume's own grid and threshold them at 0.5.

    Outside the array the probability is taken as 0, so a mask ends at most half a model voxel beyond its last voxel.

    Args:
        probability: uint8 (z, y, x), 0..255 for 0..1.
        start_zyx: voxel of the model grid at which the array starts.
        grid: the model grid.
        geometry: the volume's own grid.

    Returns:
        The mask, uint8 0 or 1 (z, y, x), in the box of the volume that it can reach, and the box (slices in z, y, x).

    """
    padded = np.pad(probability, 1)
    z, y, x = (slice(int(n) - 1, int(n) - 1 + size) for n, size in zip(start_zyx, padded.shape, strict=True))
    source = grid.geometry.crop((z, y, x))
    z, y, x = box = geometry.box_around(source.corners())
    mask = np.zeros([axis.stop - axis.start for axis in box], np.uint8)
    if mask.size and not _bring_back_along_axes(padded, source, geometry.crop(box), mask):
        image = as_image(padded, source)
        for first in range(z.start, z.stop, _SLAB):
            slab = slice(first, min(first + _SLAB, z.stop))
            values = interpolate(image, geometry.crop((slab, y, x)), outside=0)
            mask[slab.start - z.start : slab.stop - z.start] = values >= _HALF
    return mask, box


def _bring_back_along_axes(
    values: NDArray[np.uint8], source: Geometry, target: Geometry, mask: NDArray[np.uint8]
) -> bool:
    """Fill `mask` on `target` by thresholding `values` on `source`, interpolated axis after axis; False if impossible.

    Possible where the axes of both grids are parallel, and then several times faster than ITK. `values` are zero along
    their sides and beyond.
    """
    voxels = np.linalg.inv(source.ijk_to_lps) @ target.ijk_to_lps
    steps, origin = voxels[:3, :3], voxels[:3, 3]
    along = np.abs(steps).argmax(axis=1)  # the target's axis along each of the source's
    across = steps.copy()
    across[np.arange(3), along] = 0
    last = np.subtract(target.shape[::-1], 1)
    if len(set(along)) < 3 or np.max(np.abs(across) @ last) > _PARALLEL:
        return False
    x, y, z = (steps[axis, along[axis]] * np.arange(last[along[axis]] + 1) + origin[axis] for axis in range(3))
    planes = _lerp(_lerp(values.astype(np.float32), 2, x), 1, y)
    below, weights = _neighbours(z, len(planes))
    of_source = mask.transpose([2 - axis for axis in along[::-1]])
    for index, (start, weight) in enumerate(zip(below, weights, strict=True)):
        np.greater_equal(planes[start] + (planes[start + 1] - planes[start]) * weight, _HALF, out=of_source[index])
    return True


def _lerp(values: NDArray[np.float32], axis: int, coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
    """The values interpolated linearly at voxel coordinates of one axis."""
    below, weights = _neighbours(coordinates, values.shape[axis])
    low, high = values.take(below, axis), values.take(below + 1, axis)
    high -= low
    high *= weights.reshape([-1 if other == axis else 1 for other in range(3)])
    high += low
    return high


def _neighbours(coordinates: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The voxel below each coordinate along an axis of `size` voxels, and the weight of the voxel above."""
    inside = np.clip(coordinates, 0, size - 1)
    below = np.minimum(inside.astype(np.intp), size - 2)
    return below, (inside - below).astype(np.float32)
