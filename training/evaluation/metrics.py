"""Metrics of a mask: Dice, and NSD (normalised surface Dice) at several tolerances from one distance computation.

NSD is the normalised surface Dice of Nikolov et al. (2018) in DeepMind's definition, by their package
`surface-distance`: surface elements weighted by their area, distances and tolerances in mm. MONAI's
`compute_surface_dice(use_subvoxels=True)` gives the same figures; its default, which counts border voxels, does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import surface_distance
from numpy.typing import NDArray

from CTSAM3DLib.imaging.geometry import filled_box

TOLERANCES_MM = (1, 2, 3, 5)


def nsd(
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    spacing: Sequence[float],
    tolerances: Sequence[float] = TOLERANCES_MM,
) -> list[float]:
    """NSD: share of both surfaces within each tolerance (mm) of the other; masks (z, y, x), spacing z, y, x in mm.

    1 where both masks are empty, 0 where one is. Raises ValueError where the shapes differ.
    """
    if truth.shape != mask.shape:
        raise ValueError(f"Truth {truth.shape} and mask {mask.shape} must have the same shape.")
    if not truth.any() or not mask.any():
        return [float(truth.any() == mask.any())] * len(tolerances)
    box = filled_box(truth | mask)
    distances = surface_distance.compute_surface_distances(truth[box], mask[box], tuple(spacing))
    return [float(surface_distance.compute_surface_dice_at_tolerance(distances, limit)) for limit in tolerances]
