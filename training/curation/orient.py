"""Reorient a volume to RAI in ITK's sense: axes towards the left, the back and the head.

ITK's RAI names where an axis starts, so the direction matrix is the identity; nibabel calls the same LPS. Most tools'
"RAS" is another orientation.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Volume

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
STRAIGHT = 1e-3
"""Tolerance of direction cosines against 0 and 1; within it voxels are permuted, never interpolated."""


def to_rai(volume: Volume, labels: bool = False) -> Volume:
    """Return the volume with the identity as its direction, of its own type and spacing.

    Axes that are the patient's are swapped and flipped, which keeps every voxel. An oblique volume is resampled onto
    the box around it, outside which there is air: linearly, or by the nearest neighbour for `labels`.
    """
    turned = sitk.DICOMOrient(as_image(volume.array, volume.geometry), "LPS")
    if not np.allclose(turned.GetDirection(), IDENTITY, atol=STRAIGHT):
        turned = _resampled(turned, labels)
    z, y, x = turned.GetSize()[::-1]
    geometry = Geometry((z, y, x), turned.GetOrigin(), turned.GetSpacing(), IDENTITY)
    return Volume(sitk.GetArrayFromImage(turned), geometry, volume.name)


def _resampled(image: sitk.Image, labels: bool) -> sitk.Image:
    corners = Geometry.of_image(image).corners()
    spacing = np.array(image.GetSpacing())
    low = corners.min(axis=0)
    size = np.ceil(np.ptp(corners, axis=0) / spacing).astype(int) + 1
    return sitk.Resample(
        image,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkNearestNeighbor if labels else sitk.sitkLinear,
        low.tolist(),
        spacing.tolist(),
        IDENTITY,
        0.0 if labels else float(AIR_HU),
        image.GetPixelID(),
    )
