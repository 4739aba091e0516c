"""The model grid: voxels of the network's spacing along the patient's axes, and the CT resampled to it tile by tile.

The network sees patches of 64³ voxels; the voxels of the paper's network are 1.5 mm (Implementation Details).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.imaging.constants import AIR_HU, PAPER_SPACING, PATCH
from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.resampling import as_image, interpolate, shrink_factors, shrunk
from CTSAM3DLib.imaging.volume import Volume

_MAX_HU = 32767

TileIndex = tuple[int, int, int]
"""Number (z, y, x) of a tile; its first voxel on the model grid is 64 times as much."""
Start = tuple[int, int, int]
"""The first voxel (z, y, x) of a patch on the model grid; it may lie beyond the grid."""


@dataclass(frozen=True)
class ModelGrid:
    """Voxels of `spacing` mm along L, P and S. `origin` is the centre of voxel 0 in LPS mm; `shape` is z, y, x."""

    origin: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing: float = PAPER_SPACING

    @classmethod
    def covering(cls, geometry: Geometry, spacing: float = PAPER_SPACING) -> ModelGrid:
        """Return the smallest grid that covers all voxel centres of a volume, from their lowest LPS corner on."""
        corners = geometry.corners()
        low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
        x, y, z = (int(n) + 1 for n in np.ceil(extent / spacing - 1e-6))  # rounding must not add a voxel
        return cls((float(low[0]), float(low[1]), float(low[2])), (z, y, x), spacing)

    @cached_property
    def geometry(self) -> Geometry:
        """The same grid as a Geometry."""
        return Geometry(self.shape, self.origin, (self.spacing,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))

    def to_voxels(self, points_lps: ArrayLike) -> NDArray[np.float64]:
        """Return fractional voxel coordinates (x, y, z) of points in LPS mm; both (N, 3)."""
        return self.geometry.to_ijk(points_lps)

    def to_lps(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Return points in LPS mm of voxel coordinates (x, y, z); both (N, 3)."""
        return self.geometry.to_lps(voxels)

    def has_tile(self, index: Sequence[int]) -> bool:
        """Whether the tile of this index (z, y, x) holds any voxel of the grid."""
        return all(0 <= n * PATCH < size for n, size in zip(index, self.shape, strict=True))


class PatchSource(ABC):
    """Patches of a CT on a model grid, assembled from tiles that a subclass provides."""

    grid: ModelGrid

    @abstractmethod
    def tile(self, index_zyx: TileIndex) -> NDArray[np.int16]:
        """Return HU of the 64³ voxels (z, y, x) from index * 64; AIR_HU beyond the grid."""

    def patch(self, start: Start) -> NDArray[np.int16]:
        """Return HU of the 64³ voxels (z, y, x) from any `start`; AIR_HU beyond the grid."""
        patch = np.full((PATCH,) * 3, AIR_HU, np.int16)
        for index, of_tile, of_patch in tiles_under(start):
            if self.grid.has_tile(index):
                patch[of_patch] = self.tile(index)[of_tile]
        return patch


def tiles_under(start: Start) -> Iterator[tuple[TileIndex, Box, Box]]:
    """Yield the tiles that overlap the patch at `start`: index, the overlap in the tile, the overlap in the patch."""
    first = [corner // PATCH for corner in start]
    for step in itertools.product((0, 1), repeat=3):
        z, y, x = (a + b for a, b in zip(first, step, strict=True))
        shifts = [n * PATCH - corner for n, corner in zip((z, y, x), start, strict=True)]
        if max(shifts) < PATCH:
            tile_z, tile_y, tile_x = (slice(max(0, -shift), min(PATCH, PATCH - shift)) for shift in shifts)
            patch_z, patch_y, patch_x = (slice(max(0, shift), min(PATCH, PATCH + shift)) for shift in shifts)
            yield (z, y, x), (tile_z, tile_y, tile_x), (patch_z, patch_y, patch_x)


class TileSampler(PatchSource):
    """Tiles of a CT, resampled linearly on demand and cached within `capacity_bytes`. Safe across threads."""

    def __init__(self, volume: Volume, spacing: float = PAPER_SPACING, capacity_bytes: int = 256 * 2**20) -> None:
        self.grid = ModelGrid.covering(volume.geometry, spacing)
        self._volume = volume
        self._tiles = Cache(capacity_bytes)

    def tile(self, index_zyx: TileIndex) -> NDArray[np.int16]:
        """Return HU of the 64³ voxels (z, y, x) from index * 64, read-only; AIR_HU outside the CT."""
        tile: NDArray[np.int16] | None = self._tiles.get(index_zyx)
        if tile is None:
            tile = self._sample(index_zyx)
            tile.flags.writeable = False
            self._tiles.put(index_zyx, tile, tile.nbytes)
        return tile

    def _sample(self, index_zyx: TileIndex) -> NDArray[np.int16]:
        tile = np.full((PATCH,) * 3, AIR_HU, np.int16)
        if not self.grid.has_tile(index_zyx):
            return tile
        z, y, x = (
            slice(n * PATCH, min(n * PATCH + PATCH, n_all)) for n, n_all in zip(index_zyx, self.grid.shape, strict=True)
        )
        target = self.grid.geometry.crop((z, y, x))
        ct = self._volume.geometry
        # Whole groups of averaged voxels, so that a voxel's value does not depend on the tile that it lies in.
        groups = shrink_factors(ct.spacing, self.grid.spacing)[::-1]
        margin = 1 if max(groups) > 1 else 0
        z, y, x = (slice(-margin, n + margin) for n in target.shape)
        box = _aligned(ct.box_around(target.crop((z, y, x)).corners()), groups, ct.shape)
        voxels = self._volume.array[box].astype(np.float32)
        if voxels.size:
            # Padding values such as -3024 are clipped to air, or interpolation would spread them into neighbours.
            image = shrunk(as_image(np.clip(voxels, AIR_HU, _MAX_HU), ct.crop(box)), self.grid.spacing)
            values = interpolate(image, target, outside=AIR_HU)
            tile[tuple(slice(n) for n in target.shape)] = np.rint(values)
        return tile


def _aligned(box: Box, groups: Sequence[int], shape: Sequence[int]) -> Box:
    """The box widened to whole groups of voxels, counted from the CT's first voxel, within the CT's `shape`."""
    z, y, x = (
        slice(axis.start - axis.start % group, min(axis.stop + -axis.stop % group, size))
        for axis, group, size in zip(box, groups, shape, strict=True)
    )
    return z, y, x
