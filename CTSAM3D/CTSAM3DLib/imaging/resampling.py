"""Images sampled at the voxels of another grid: linear interpolation, and averaging where voxels become larger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.imaging.geometry import Geometry

PAPER_SPACING = 1.5
"""Voxel of the paper's network, mm."""
AIR_HU = -1024
"""HU of what lies outside a CT."""
PATCH = 64
"""Voxels along each axis of the patch that every network sees."""


def shrunk(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image with its voxels averaged as far as they fit into voxels of `spacing` mm, so that noise does not alias.

    At the paper's spacing it stays as it is, because the published code interpolates and no more.
    """
    factors = shrink_factors(image.GetSpacing(), spacing)
    if max(factors) == 1:
        return image
    missing = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    binned: sitk.Image = sitk.BinShrink(sitk.ZeroFluxNeumannPad(image, [0] * len(missing), missing), factors)
    return binned


def shrink_factors(own: Sequence[float], spacing: float) -> list[int]:
    """How many voxels of `own` mm, on each axis, are averaged for voxels of `spacing` mm."""
    if spacing <= PAPER_SPACING:
        return [1] * len(own)
    return [max(1, int(spacing / step + 1e-6)) for step in own]


def interpolate(image: sitk.Image, target: Geometry, outside: float) -> NDArray[np.float32]:
    """Return the image interpolated linearly at the voxel centres (z, y, x) of `target`."""
    resampled = sitk.Resample(
        image,
        target.shape[::-1],
        sitk.Transform(),
        sitk.sitkLinear,
        target.origin,
        target.spacing,
        target.direction,
        outside,
        sitk.sitkFloat32,
    )
    return sitk.GetArrayFromImage(resampled)
