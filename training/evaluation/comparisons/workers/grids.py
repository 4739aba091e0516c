"""Resample a CT to the voxels that a network expects, and back, by PyTorch's interpolation.

Centres of the first and last voxels do not stay: the box that all voxels fill together does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from .serve import Spacing


def resampled(array: np.ndarray, spacing: Spacing, wanted: Spacing) -> torch.Tensor:
    """Resample an array (z, y, x) linearly to voxels of about the given size; float32 (1, 1, z, y, x)."""
    shape = [max(1, round(n * own / new)) for n, own, new in zip(array.shape, spacing, wanted, strict=True)]
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    return image if shape == list(array.shape) else interpolate(image, shape, mode="trilinear", align_corners=False)


def brought_back(image: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Resample an image (1, channels, z, y, x) linearly to this number of voxels."""
    return image if image.shape[2:] == shape else interpolate(image, shape, mode="trilinear", align_corners=False)


def to_ras(image: torch.Tensor) -> torch.Tensor:
    """Axes z, y, x to the head, back and left as x, y, z to the right, front and head, which is MONAI's habit."""
    return image.permute(0, 1, 4, 3, 2).flip(2, 3)


def from_ras(image: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_ras`."""
    return image.flip(2, 3).permute(0, 1, 4, 3, 2)
