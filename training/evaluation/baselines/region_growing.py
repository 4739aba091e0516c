"""Region growing by SimpleITK from every positive click, cut by negative clicks.

Choices, made on cases that are not used to compare:
- The CT is smoothed (Gaussian, sigma 2 mm) and seen at 2 mm or its own voxels if larger, in a box that reaches 15 mm
  beyond the positive clicks. The box is what stops leaks before there are negative clicks; wider ones were worse.
- Each positive click grows by itself, since a structure may hold several tissues: over connected voxels within 1.5
  standard deviations, and at least 20 HU, of the mean within 5 mm of the click. Confidence-connected growth, which
  widens that interval as it grows, leaked more.
- A negative click takes away all voxels that are nearer to it than to any positive click, before growing, so that
  nothing grows around it either. Growth that ignores negative clicks gets no better by them at all.
- The grown voxels are closed by one voxel against noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Volume
from training.evaluation.baselines import Baseline
from training.evaluation.baselines.region import around

MARGIN_MM = 15.0
SPACING_MM = 2.0
MAX_VOXELS = 1_000_000
SIGMA_MM = 2.0
MIN_TO_SMOOTH = 4
"""Voxels along an axis that the filter needs; a box of thick slices can have fewer."""
SAMPLE_MM = 5.0
DEVIATIONS = 1.5
MIN_TOLERANCE_HU = 20.0
FORBIDDEN_HU = -1e6


class RegionGrowing(Baseline):
    """Region growing: voxels of similar HU that are connected to a positive click."""

    name = "region-growing"

    def mask(self, ct: Volume, clicks: Sequence[Click]) -> Volume:
        """The union of the regions grown from the positive clicks."""
        region = around(ct, clicks, MARGIN_MM, SPACING_MM, MAX_VOXELS)
        hu = region.hu
        if min(hu.shape) >= MIN_TO_SMOOTH:
            smooth = sitk.SmoothingRecursiveGaussian(as_image(hu, region.geometry), SIGMA_MM)
            hu = sitk.GetArrayFromImage(smooth)
        positive = [click for click in clicks if click.positive]
        negative = [click for click in clicks if not click.positive]
        allowed = region.distance(positive) <= region.distance(negative)
        field = as_image(np.where(allowed, hu, FORBIDDEN_HU).astype(np.float32), region.geometry)
        grown = np.zeros(hu.shape, bool)
        for click in positive:
            voxel = region.voxel(click)
            sample = hu[allowed & (region.distance([click]) <= SAMPLE_MM)]
            tolerance = max(DEVIATIONS * float(sample.std()), MIN_TOLERANCE_HU)
            low = min(float(sample.mean()) - tolerance, float(hu[voxel]))
            high = max(float(sample.mean()) + tolerance, float(hu[voxel]))
            grown |= sitk.GetArrayFromImage(sitk.ConnectedThreshold(field, [voxel[::-1]], low, high)) > 0
        closed = sitk.BinaryMorphologicalClosing(as_image(grown.astype(np.uint8), region.geometry), (1, 1, 1))
        return region.bring_back(sitk.GetArrayFromImage(closed), ct.geometry)
