"""Prompt maps: clicks drawn as Gaussians in a patch (paper, "Progressively and Spatially Aligned Prompt")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.constants import PATCH

SIGMA = 2.0
"""Voxels. Standard deviation of the Gaussian."""
RADIUS = 8
"""Voxels. Half the side of the cube that a click is drawn in."""


def click_maps(
    points_xyz: NDArray[np.floating] | Sequence[Sequence[float]], labels: Sequence[int], size: int = PATCH
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the click maps of a patch, as the published code does.

    Args:
        points_xyz: voxel coordinates (n, 3) in the patch, in the order x, y, z; truncated to whole voxels. A point
            outside the patch draws the part of its cube that lies inside.
        labels: 1 positive, 0 negative, -1 no click; (n,).
        size: voxels along each axis of the patch.

    Returns:
        Maps of the positive and of the negative clicks, float32 0..1, each (size, size, size) in z, y, x. Within a map
        a later click overwrites the cube of an earlier one.

    """
    blob = _gaussian_cube()
    positive = np.zeros((size, size, size), np.float32)
    negative = np.zeros_like(positive)
    for point, label in zip(points_xyz, labels, strict=True):
        if label == -1:
            continue
        target = positive if label == 1 else negative
        centre_zyx = [int(value) for value in reversed(list(point))]
        inside = tuple(slice(max(c - RADIUS, 0), max(min(c + RADIUS + 1, size), 0)) for c in centre_zyx)
        of_blob = tuple(
            slice(s.start - c + RADIUS, s.stop - c + RADIUS) for s, c in zip(inside, centre_zyx, strict=True)
        )
        if all(s.start < s.stop for s in inside):
            target[inside] = blob[of_blob]
    return _to_unit_range(positive), _to_unit_range(negative)


def _gaussian_cube() -> NDArray[np.float32]:
    """A Gaussian on a cube of 17³ voxels; values below machine precision relative to its peak are zero."""
    offsets = np.arange(-RADIUS, RADIUS + 1, dtype=np.float64)
    squared = offsets**2
    cube = np.exp(-(squared[:, None, None] + squared[:, None] + squared) / (2 * SIGMA**2))
    cube[cube < np.finfo(np.float64).eps * cube.max()] = 0
    return cube.astype(np.float32)


def _to_unit_range(click_map: NDArray[np.float32]) -> NDArray[np.float32]:
    lowest, highest = click_map.min(), click_map.max()
    return (click_map - lowest) / (highest - lowest) if highest > lowest else click_map
