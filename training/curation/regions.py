"""Distances (mm) and connected components (mL) of masks."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import edt
import numpy as np


def distance_to(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the mm from every voxel to the nearest of the mask (z, y, x); infinite where the mask is empty."""
    return edt.edt(~mask, anisotropy=spacing) if mask.any() else np.full(mask.shape, np.inf, np.float32)


def without_dust(mask: np.ndarray, millilitres: float, spacing: Sequence[float]) -> np.ndarray:
    """Return the mask without components smaller than this, and without single voxels."""
    fewest = max(2, round(millilitres * 1000 / float(np.prod(spacing))))
    return cc3d.dust(mask, threshold=fewest, connectivity=6).astype(bool)
