"""The body mask of a CT, without the table; the reference volume of the annotated ratio."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import SimpleITK as sitk

from CTSAM3DLib.imaging.constants import AIR_HU

SKIN_HU = -300
TABLE_MM = 3.0
"""mm. Radius of the opening that separates the body from a table, a blanket and tubes."""
LABELLED_SHARE = 0.05
"""A piece that holds labels in this share of its voxels is of the patient: an arm beside the trunk."""


def body_of(hu: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the body, a bool array like `hu`, filled slice by slice.

    It is the largest piece above -300 HU once thin bridges are opened, and every piece that the labels say is of the
    patient. Air inside, such as lungs and bowel gas, belongs to it.

    Args:
        hu: (z, y, x) of a CT in RAI.
        labels: of the same shape, 0 for none.
        spacing: z, y, x in mm.

    """
    radius = [max(1, round(TABLE_MM / step)) for step in reversed(spacing)]  # ITK has x, y, z
    dense = sitk.GetImageFromArray((hu > SKIN_HU).astype(np.uint8))
    opened = sitk.GetArrayFromImage(sitk.BinaryMorphologicalOpening(dense, radius, sitk.sitkBall))
    pieces, number = cc3d.connected_components(opened, connectivity=6, return_N=True)
    if number == 0:
        return np.zeros(hu.shape, bool)
    sizes = np.bincount(pieces.ravel(), minlength=number + 1).astype(float)
    labelled = np.bincount(pieces[labels > 0], minlength=number + 1)
    kept = labelled >= LABELLED_SHARE * sizes
    kept[0] = False
    kept[1 + int(sizes[1:].argmax())] = True
    body = kept[pieces]
    for plane in body:
        plane[:] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(plane.astype(np.uint8))))
    return body


def in_body(hu: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Return the voxels of the annotated ratio: the body without voxels at -1024 HU or below."""
    return body & (hu > AIR_HU)
