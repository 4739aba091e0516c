"""The geometry of a voxel grid: its place in the patient, in LPS millimetres (x to the left, y to the back, z up)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from CTSAM3DLib.errors import VolumeError

Box = tuple[slice, slice, slice]
"""A sub-box of an array: slices in z, y, x."""


@dataclass(frozen=True)
class Geometry:
    """A voxel grid: LPS position = origin + direction @ (spacing * (i, j, k)), as in SimpleITK.

    `shape` is z, y, x. `origin` and `spacing` are x, y, z in mm. `direction` is a row-major 3x3 matrix whose columns
    are the unit vectors of the i, j, k axes; it may be flipped, and sheared as after a gantry tilt.
    Raises VolumeError where the numbers make no valid grid.
    """

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for field in ("origin", "spacing", "direction"):
            object.__setattr__(self, field, tuple(float(number) for number in getattr(self, field)))
        # ITK's matrix inverse goes wrong on denormal numbers.
        direction = tuple(0.0 if abs(cosine) < 1e-12 else cosine for cosine in self.direction)
        object.__setattr__(self, "direction", direction)
        if (len(self.shape), len(self.origin), len(self.spacing), len(self.direction)) != (3, 3, 3, 9):
            raise VolumeError("The image is not three-dimensional; give a single 3D volume.")
        if min(self.shape) < 1:
            raise VolumeError(f"The image has no voxels (size {self.shape[::-1]}); export it again.")
        if not all(math.isfinite(number) for number in (*self.origin, *self.spacing, *self.direction)):
            raise VolumeError("The image's position holds numbers that are not finite; mend its header.")
        if min(self.spacing) <= 0:
            raise VolumeError(f"The image's voxel spacing {self.spacing} mm is not positive; mend its header.")
        if abs(np.linalg.det(np.reshape(self.direction, (3, 3)))) < 1e-4:
            raise VolumeError("The image's axes do not span space (singular direction matrix); mend its header.")

    @classmethod
    def from_matrix(cls, shape: tuple[int, int, int], ijk_to_lps: ArrayLike) -> Geometry:
        """Return the grid of `shape` (z, y, x) with this 4x4 matrix from voxels i, j, k to LPS mm."""
        matrix = np.asarray(ijk_to_lps, dtype=np.float64)
        axes = matrix[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # the constructor refuses a spacing of zero
            direction = axes / spacing
        return cls(shape, tuple(matrix[:3, 3]), tuple(spacing), tuple(direction.ravel()))

    @classmethod
    def of_image(cls, image: sitk.Image) -> Geometry:
        """Return the grid of a SimpleITK image; of a 4D one, the grid of its first volume."""
        dimensions = image.GetDimension()
        direction = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3]
        return cls(image.GetSize()[2::-1], image.GetOrigin()[:3], image.GetSpacing()[:3], tuple(direction.ravel()))

    @cached_property
    def ijk_to_lps(self) -> NDArray[np.float64]:
        """4x4 matrix from voxel indices i, j, k to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        matrix[:3, 3] = self.origin
        return matrix

    @cached_property
    def _lps_to_ijk(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.ijk_to_lps), dtype=np.float64)

    def to_lps(self, points_ijk: ArrayLike) -> NDArray[np.float64]:
        """Return the LPS mm of voxel coordinates i, j, k; both (N, 3)."""
        return np.asarray(points_ijk, dtype=np.float64) @ self.ijk_to_lps[:3, :3].T + self.ijk_to_lps[:3, 3]

    def to_ijk(self, points_lps: ArrayLike) -> NDArray[np.float64]:
        """Return the fractional voxel coordinates i, j, k of points in LPS mm; both (N, 3)."""
        return np.asarray(points_lps, dtype=np.float64) @ self._lps_to_ijk[:3, :3].T + self._lps_to_ijk[:3, 3]

    def contains(self, point_lps: ArrayLike) -> bool:
        """Whether a point in LPS mm lies in a voxel: within half a voxel of the outer voxel centres."""
        ijk = self.to_ijk(point_lps)
        return bool(np.all((ijk >= -0.5) & (ijk <= np.subtract(self.shape[::-1], 0.5))))

    def corners(self, margin: float = 0.0) -> NDArray[np.float64]:
        """Return the eight outermost voxel centres in LPS mm, pushed outwards by `margin` voxels; (8, 3)."""
        ends = [(-margin, size - 1 + margin) for size in self.shape[::-1]]
        return self.to_lps(list(itertools.product(*ends)))

    def box_around(self, points_lps: ArrayLike) -> Box:
        """Return the smallest box of voxels with points in LPS mm (N, 3) between its centres; may be empty."""
        ijk = self.to_ijk(points_lps)
        sizes = np.array(self.shape[::-1])
        start = np.clip(np.floor(ijk.min(axis=0)).astype(int), 0, sizes)
        stop = np.clip(np.ceil(ijk.max(axis=0)).astype(int) + 1, start, sizes)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return z, y, x

    def crop(self, box: Box) -> Geometry:
        """Return the grid of the sub-box `box` (slices in z, y, x with start and stop)."""
        z, y, x = box
        origin = self.to_lps((x.start, y.start, z.start))
        return Geometry(
            (z.stop - z.start, y.stop - y.start, x.stop - x.start), tuple(origin), self.spacing, self.direction
        )

    def is_close(self, other: Geometry, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same shape and every voxel centre within `tolerance` mm."""
        if self.shape != other.shape:
            return False
        return bool(np.all(np.linalg.norm(self.corners() - other.corners(), axis=1) <= tolerance))


def filled_box(mask: NDArray[np.bool_ | np.uint8], margin: int = 0) -> Box:
    """Return the smallest box around all that is not zero in `mask` (z, y, x), without voxels where nothing is.

    It is `margin` voxels wider on every side where the array goes on so far.
    """
    along_z = mask.max(axis=0, initial=0)
    y, x = _filled(along_z.any(axis=1)), _filled(along_z.any(axis=0))
    z = _filled(mask[:, y, x].any(axis=(1, 2)))
    if z.start == z.stop:
        return z, y, x
    z, y, x = (
        slice(max(axis.start - margin, 0), min(axis.stop + margin, size))
        for axis, size in zip((z, y, x), mask.shape, strict=True)
    )
    return z, y, x


def _filled(line: ArrayLike) -> slice:
    there = np.flatnonzero(line)
    return slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 0)
