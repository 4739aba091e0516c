"""A mask on the model grid brought back to the voxels of the CT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.resampling import as_image, interpolate
from CTSAM3DLib.segmentation.patch_grid import ModelGrid

_HALF = 127.5  # probability 0.5 of 0..255
_PARALLEL = 1e-3  # voxels that an axis may leave its parallel by
_SLAB = 32  # slices brought back at a time, which bounds the memory


def bring_back(
    probability: NDArray[np.uint8], start_zyx: Sequence[int], grid: ModelGrid, geometry: Geometry
) -> tuple[NDArray[np.uint8], Box]:
    """Return the mask of a probability on a volume's own grid: (mask 0 or 1, its box as slices in z, y, x).

    `probability` (z, y, x), 0..255 for 0..1, lies on `grid` at `start`, and is zero all around, so that a mask ends
    half a model voxel beyond the last voxel above 0.5. Only the box of the volume that it can reach is computed.
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
    """Fill `mask` on `target` with where `values` on `source` are above the half, interpolating axis after axis.

    Possible, and some times faster than ITK, where the axes of both grids are parallel; else False. `values` are zero
    along their sides, and so is everything beyond them.
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
    """The values interpolated linearly at these coordinates of one axis."""
    below, weights = _neighbours(coordinates, values.shape[axis])
    low, high = values.take(below, axis), values.take(below + 1, axis)
    high -= low
    high *= weights.reshape([-1 if other == axis else 1 for other in range(3)])
    high += low
    return high


def _neighbours(coordinates: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The voxels below the coordinates along an axis of `size` voxels, and the weights of those above."""
    inside = np.clip(coordinates, 0, size - 1)
    below = np.minimum(inside.astype(np.intp), size - 2)
    return below, (inside - below).astype(np.float32)
