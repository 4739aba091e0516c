"""The region of the baselines: a box of the CT around the clicks on a coarser grid, with seeds, and back.

Methods that spread from seeds need more than points, so a click is a dab of a brush: a ball. The rim of the box is
background, without which a first positive click alone would fill the box; where the box ends with the CT there is no
rim, since a structure may go on beyond the CT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image, interpolate
from CTSAM3DLib.imaging.volume import Volume

INSIDE, OUTSIDE = 1, 2
"""Values of seeds; 0 is no seed."""


@dataclass(frozen=True)
class Region:
    """A box of a CT on a grid along the CT's axes whose voxels may be larger."""

    hu: NDArray[np.float32]
    """z, y, x."""
    geometry: Geometry
    ends_with_ct: NDArray[np.bool_]
    """For each axis z, y, x and both ends: whether the CT ends there too; (3, 2)."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size z, y, x in mm."""
        x, y, z = self.geometry.spacing
        return z, y, x

    def voxel(self, click: Click) -> tuple[int, int, int]:
        """The voxel (z, y, x) that is nearest to a click."""
        nearest = np.rint(self.geometry.to_ijk(click.position)[::-1]).astype(int)
        z, y, x = (min(max(int(n), 0), size - 1) for n, size in zip(nearest, self.hu.shape, strict=True))
        return z, y, x

    def distance(self, clicks: Sequence[Click]) -> NDArray[np.float64]:
        """The distance in mm of each voxel to the nearest clicked one, infinite without clicks; (z, y, x)."""
        nearest = np.full(self.hu.shape, np.inf)
        axes = np.ogrid[tuple(slice(size) for size in self.hu.shape)]
        for click in clicks:
            offsets = [(axis - n) * mm for axis, n, mm in zip(axes, self.voxel(click), self.spacing, strict=True)]
            np.minimum(nearest, sum(offset**2 for offset in offsets), out=nearest)
        return np.sqrt(nearest)

    def seeds(self, clicks: Sequence[Click], brush_mm: float) -> NDArray[np.uint8]:
        """INSIDE and OUTSIDE in balls of radius `brush_mm` around the clicks, OUTSIDE on the rim, else 0; (z, y, x).

        Where balls overlap, the nearer click wins. A box that is the whole CT has a rim all the same.
        """
        seeds = np.zeros(self.hu.shape, np.uint8)
        no_rim = self.ends_with_ct & ~self.ends_with_ct.all()
        for axis, end in np.argwhere(~no_rim):
            np.moveaxis(seeds, axis, 0)[-end] = OUTSIDE
        positive = self.distance([click for click in clicks if click.positive])
        negative = self.distance([click for click in clicks if not click.positive])
        seeds[(negative <= brush_mm) & (negative < positive)] = OUTSIDE
        seeds[(positive <= brush_mm) & (positive <= negative)] = INSIDE
        return seeds

    def bring_back(self, inside: NDArray[np.generic], geometry: Geometry) -> Volume:
        """Resample a probability (z, y, x) of this region linearly to the CT's grid and threshold it at 0.5."""
        mask = np.zeros(geometry.shape, np.uint8)
        box = geometry.box_around(self.geometry.corners(margin=0.5))
        image = as_image(np.asarray(inside, np.float32), self.geometry)
        mask[box] = interpolate(image, geometry.crop(box), outside=0.0) >= 0.5
        return Volume(mask, geometry)


def around(ct: Volume, clicks: Sequence[Click], margin_mm: float, spacing_mm: float, most_voxels: int) -> Region:
    """The box of the positive clicks and a margin, as far as the CT goes, in voxels of at least `spacing_mm`.

    Voxels are enlarged until there are at most `most_voxels`.
    """
    margin = margin_mm / np.array(ct.geometry.spacing)
    ijk = ct.geometry.to_ijk([click.position for click in clicks if click.positive])
    last = np.array(ct.geometry.shape[::-1]) - 1
    low = np.floor(ijk.min(axis=0) - margin).astype(int)
    high = np.ceil(ijk.max(axis=0) + margin).astype(int)
    ends_with_ct = np.stack([low <= 0, high >= last], axis=1)[::-1]
    x, y, z = (slice(int(a), int(b) + 1) for a, b in zip(np.maximum(low, 0), np.minimum(high, last), strict=True))
    full = ct.geometry.crop((z, y, x))
    grid = _coarser(full, spacing_mm)
    while np.prod(grid.shape) > most_voxels:
        spacing_mm *= 1.1
        grid = _coarser(full, spacing_mm)
    image = as_image(np.maximum(ct.array[z, y, x].astype(np.float32), AIR_HU), full)
    return Region(interpolate(image, grid, outside=AIR_HU), grid, ends_with_ct)


def _coarser(grid: Geometry, spacing_mm: float) -> Geometry:
    """The box in voxels of at least `spacing_mm`; the first voxel stays, the last shifts by less than a voxel."""
    spacing = np.maximum(grid.spacing, spacing_mm)
    extent = (np.array(grid.shape[::-1]) - 1) * grid.spacing
    x, y, z = (int(n) + 1 for n in np.floor(extent / spacing + 1e-6))
    return Geometry((z, y, x), grid.origin, (spacing[0], spacing[1], spacing[2]), grid.direction)
