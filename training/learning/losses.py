"""The losses of Algorithm 1: focal and Dice loss of masks; targets of the cross-patch heat maps."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

FOCAL_WEIGHT, FOCAL_ALPHA, FOCAL_GAMMA = 0.2, 0.8, 2
DICE_WEIGHT, DICE_SMOOTHING = 0.8, 1.0
HEAT_MAP_SIGMA = 5.0
"""Voxels. Standard deviation of target heat maps, not given in the paper; wider than a click's (2), since a wider
target is learnt in far fewer steps."""


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """0.2 focal + 0.8 Dice (paper, "Implementation details"), averaged over the batch; both (batch, 1, z, y, x).

    As in the released code, the focal term weighs the mean cross-entropy of each sample (alpha 0.8, gamma 2), and the
    Dice term has a smoothing of 1, which also teaches empty patches to stay empty.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten(1).mean(1)
    focal = FOCAL_ALPHA * (1 - torch.exp(-cross_entropy)) ** FOCAL_GAMMA * cross_entropy
    probability, truth = logits.sigmoid().flatten(1), truth.flatten(1)
    overlap = (probability * truth).sum(1)
    dice = 1 - (2 * overlap + DICE_SMOOTHING) / (probability.sum(1) + truth.sum(1) + DICE_SMOOTHING)
    return (FOCAL_WEIGHT * focal + DICE_WEIGHT * dice).mean()


def dice_of(probability: Tensor, truth: Tensor) -> Tensor:
    """Dice of each sample's mask at threshold 0.5, (batch, 1, z, y, x) to (batch,); 1 where both masks are empty."""
    mask = probability > 0.5
    there = truth > 0.5
    overlap = (mask & there).flatten(1).sum(1)
    total = mask.flatten(1).sum(1) + there.flatten(1).sum(1)
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), torch.ones_like(total, dtype=torch.float32))


def heat_map(truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The target heat map of a patch (z, y, x): a Gaussian at the foreground voxel nearest the centroid, or zeros."""
    voxels = np.argwhere(truth)
    if len(voxels) == 0:
        return np.zeros(truth.shape, np.float32)
    centre = voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
    squared = [np.square(np.arange(size) - c, dtype=np.float32) for size, c in zip(truth.shape, centre, strict=True)]
    return np.exp(-(squared[0][:, None, None] + squared[1][:, None] + squared[2]) / np.float32(2 * HEAT_MAP_SIGMA**2))
