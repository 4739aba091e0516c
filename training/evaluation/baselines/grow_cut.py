"""GrowCut by the filter of 3D Slicer's "Grow from seeds", `vtkImageGrowCutSegment` of slicer-core.

Choices, made on cases that are not used to compare:
- Seeds are balls of 5 mm radius around the clicks, and background on the rim of a box that reaches 25 mm beyond the
  positive clicks. GrowCut gives every voxel to some seed, so that it takes all of a tissue up to the next background.
  A narrower box was better for small structures after many clicks and worse for first clicks, a wider one the reverse.
- The box is seen at 1.5 mm or the CT's own voxels if larger, and larger still beyond 500,000 voxels.
- HU are neither windowed nor smoothed, and seed locality is 0: Slicer's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from slicer import vtkImageGrowCutSegment
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from training.evaluation.baselines import Baseline
from training.evaluation.baselines.region import INSIDE, around

MARGIN_MM = 25.0
BRUSH_MM = 5.0
SPACING_MM = 1.5
MAX_VOXELS = 500_000


class GrowCut(Baseline):
    """GrowCut: each voxel belongs to the seed whose path to it crosses the least change of HU."""

    name = "grow-cut"

    def mask(self, ct: Volume, clicks: Sequence[Click]) -> Volume:
        """The voxels that belong to positive seeds."""
        region = around(ct, clicks, MARGIN_MM, SPACING_MM, MAX_VOXELS)
        grow = vtkImageGrowCutSegment()
        # The filter grows from no voxel on the border of the image, so the rim must not lie there.
        hu = np.pad(np.rint(region.hu).astype(np.int16), 1, mode="edge")
        grow.SetIntensityVolume(_image(hu, region.spacing))
        grow.SetSeedLabelVolume(_image(np.pad(region.seeds(clicks, BRUSH_MM), 1), region.spacing))
        grow.Update()
        labels = vtk_to_numpy(grow.GetOutput().GetPointData().GetScalars()).reshape(hu.shape)
        return region.bring_back(labels[1:-1, 1:-1, 1:-1] == INSIDE, ct.geometry)


def _image(array: NDArray[np.generic], spacing: tuple[float, float, float]) -> vtkImageData:
    """A VTK image of an array (z, y, x); spacing z, y, x in mm."""
    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.SetSpacing(*spacing[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    return image
