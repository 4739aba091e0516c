"""Resampling to another grid: linear interpolation, after averaging where voxels become larger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.imaging.constants import PAPER_SPACING
from CTSAM3DLib.imaging.geometry import Geometry


def shrunk(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image averaged over groups of voxels that fit into voxels of `spacing` mm, so that noise does not alias.

    At the paper's spacing the image is returned as it is, because the published code only interpolates.
    """
    factors = shrink_factors(image.GetSpacing(), spacing)
    if max(factors) == 1:
        return image
    missing = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    binned: sitk.Image = sitk.BinShrink(sitk.ZeroFluxNeumannPad(image, [0] * len(missing), missing), factors)
    return binned


def shrink_factors(own: Sequence[float], spacing: float) -> list[int]:
    """Number of voxels of `own` mm, along each axis, that are averaged into voxels of `spacing` mm."""
    if spacing <= PAPER_SPACING:
        return [1] * len(own)
    return [max(1, int(spacing / step + 1e-6)) for step in own]


def interpolate(image: sitk.Image, target: Geometry, outside: float) -> NDArray[np.float32]:
    """Interpolate linearly at the voxel centres of `target`: float32 (z, y, x), `outside` beyond the image."""
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


def as_image(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """Return a SimpleITK image with a copy of the voxels (z, y, x)."""
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    return image
