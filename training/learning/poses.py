"""Spatial augmentation: rotation, mirroring, scaling and smooth deformation of a sample.

A pose is drawn on the host, once for all patches of a sample, so that two patches of a sample overlap exactly. It maps
voxels of the patch to voxels of the case on a coarse grid, which the device interpolates. Positions are (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTSAM3DLib.imaging.constants import PATCH

COARSE = 17
"""Points of the coarse grid along an axis: every fourth voxel of a patch, and one beyond its end."""
WAVES = 4
"""Sine waves that deform a sample."""


@dataclass(frozen=True)
class PoseRange:
    """The ranges that poses are drawn from.

    Attributes:
        upright_share: share of samples in the patient's orientation, perhaps mirrored; orientation helps to tell
            structures apart. The axes of the others are permuted and flipped at random.
        turn_degrees, scale, stretch: standard deviations of the rotation angles, of the logarithm of the scale, and of
            the logarithm of the scale of each axis.
        bend: largest shift by all waves together, as a share of their wavelength; below about 0.15 nothing folds over.
        wavelengths: shortest and longest wavelength of the deformation, voxels.

    """

    upright_share: float = 0.9
    turn_degrees: float = 8.0
    scale: float = 0.12
    stretch: float = 0.08
    bend: float = 0.12
    wavelengths: tuple[float, float] = (24.0, 90.0)


@dataclass(frozen=True)
class Pose:
    """A drawn pose: voxel i of the sample maps to `anchor + matrix @ i + waves(i)` of the case."""

    anchor: NDArray[np.float64]
    matrix: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    """(waves, 3), radians a voxel."""
    phases: NDArray[np.float64]
    """(waves,)."""
    amplitudes: NDArray[np.float64]
    """(waves, 3), voxels."""

    @classmethod
    def random(cls, anchor: NDArray[np.float64], rng: np.random.Generator, limits: PoseRange) -> Pose:
        """A random pose that maps voxel 0 of the sample to `anchor` (z, y, x) of the case, up to the deformation."""
        if rng.random() < limits.upright_share:
            matrix = np.diag([1.0, 1.0, rng.choice([-1.0, 1.0])])
        else:
            matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], size=3)
        skew = rng.normal(0, np.radians(limits.turn_degrees), (3, 3))
        turn, upper = np.linalg.qr(np.eye(3) + skew - skew.T)
        turn = turn * np.sign(np.diag(upper))
        size = np.exp(rng.normal(0, limits.scale) + rng.normal(0, limits.stretch, 3))
        shortest, longest = limits.wavelengths
        lengths = shortest * (longest / shortest) ** rng.random(WAVES)
        directions = rng.normal(size=(2, WAVES, 3))
        directions /= np.linalg.norm(directions, axis=2, keepdims=True)
        heights = rng.uniform(0, limits.bend / WAVES, WAVES) * lengths
        return cls(
            anchor,
            matrix @ turn * size,
            directions[0] * (2 * np.pi / lengths)[:, None],
            rng.uniform(0, 2 * np.pi, WAVES),
            directions[1] * heights[:, None],
        )

    @classmethod
    def plain(cls, anchor: NDArray[np.float64]) -> Pose:
        """The identity: the patient as scanned."""
        return cls(anchor, np.eye(3), np.zeros((WAVES, 3)), np.zeros(WAVES), np.zeros((WAVES, 3)))

    def points(self, start: NDArray[np.int64]) -> NDArray[np.float32]:
        """Voxels of the case at the coarse grid of the patch from voxel `start` on, (3, 17, 17, 17)."""
        along = [first + np.arange(COARSE) * (PATCH / (COARSE - 1)) for first in start]
        z, y, x = (axis.reshape(shape) for axis, shape in zip(along, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True))
        points = [
            middle + row[0] * z + row[1] * y + row[2] * x for middle, row in zip(self.anchor, self.matrix, strict=True)
        ]
        for frequency, phase, amplitude in zip(self.frequencies, self.phases, self.amplitudes, strict=True):
            wave = np.sin(frequency[0] * z + frequency[1] * y + frequency[2] * x + phase)
            for k in range(3):
                points[k] = points[k] + amplitude[k] * wave
        return np.stack(points).astype(np.float32)


def voxelwise(points: Tensor) -> Tensor:
    """Interpolate coarse grids (b, 3, 17, 17, 17) to every voxel of the patches, (b, 3, 64, 64, 64)."""
    along = points
    # Axis by axis, and only to the last voxel: a trilinear interpolation in three short steps.
    for axis in (2, 3, 4):
        along = _interpolated(along, axis)
    return along


def _interpolated(points: Tensor, axis: int) -> Tensor:
    """Linear interpolation along an axis: 17 points become 64."""
    step = PATCH // (COARSE - 1)
    share = torch.arange(step, device=points.device, dtype=points.dtype) / step
    share = share.reshape([-1 if k == axis + 1 else 1 for k in range(points.ndim + 1)])
    this, following = points.narrow(axis, 0, COARSE - 1), points.narrow(axis, 1, COARSE - 1)
    mixed = torch.lerp(this.unsqueeze(axis + 1), following.unsqueeze(axis + 1), share)
    return mixed.flatten(axis, axis + 1)
