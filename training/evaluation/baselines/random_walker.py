"""Random walker (Grady 2006) by scikit-image, from seeds at the clicks.

Choices, made on cases that are not used to compare:
- Seeds are balls of 8 mm radius around the clicks, and background on the rim of a box that reaches 40 mm beyond the
  positive clicks. Without the rim a first positive click has nothing to compete with.
- The box is seen at 3 mm or the CT's own voxels if larger, and larger still beyond 150,000 voxels, which keeps an
  answer below some seconds. The CT is clipped to 200 HU on both sides of the median under the positive seeds, as a
  user would set the window.
- `beta` 6000 instead of scikit-image's 130: borders between soft tissues hardly stop the walk of the default, and
  first clicks then give next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.segmentation import random_walker

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from training.evaluation.baselines import Baseline
from training.evaluation.baselines.region import INSIDE, around

MARGIN_MM = 40.0
BRUSH_MM = 8.0
SPACING_MM = 3.0
MAX_VOXELS = 150_000
HALF_WINDOW_HU = 200.0
BETA = 6000
TOLERANCE = 1e-3


class RandomWalker(Baseline):
    """Random walker: each voxel belongs to the seeds that a random walk, hindered by edges, likely reaches first."""

    name = "random-walker"

    def mask(self, ct: Volume, clicks: Sequence[Click]) -> Volume:
        """The voxels from which a walk reaches a positive seed first with a probability of at least 0.5."""
        region = around(ct, clicks, MARGIN_MM, SPACING_MM, MAX_VOXELS)
        seeds = region.seeds(clicks, BRUSH_MM)
        level = np.median(region.hu[seeds == INSIDE])
        windowed = np.clip((region.hu - level) / (2 * HALF_WINDOW_HU), -0.5, 0.5)
        probability = random_walker(
            windowed,
            seeds,
            BETA,
            mode="cg_j",
            tol=TOLERANCE,
            return_full_prob=True,
            spacing=region.spacing,
            prob_tol=1.0,  # no warning of probabilities a little beyond 0..1, since a half is all that is asked
        )
        return region.bring_back(probability[INSIDE - 1], ct.geometry)
