"""The model grid, along the patient's axes; a CT sampled onto it tile by tile, and masks brought back.

A network sees patches of 64³ voxels; those of the paper's network are 1.5 mm (Implementation Details).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.geometry import Box, Geometry
from CTSAM3DLib.volume import Volume
from CTSAM3DLib.volume_io import as_image

PAPER_SPACING = 1.5
"""Voxel of the paper's network, mm."""
PATCH = 64
AIR_HU = -1024

_HIGHEST_HU = 32767
_HALF = 127.5  # probability 0.5 of 0..255
_PARALLEL = 1e-3  # voxels that an axis may leave its parallel by
_SLAB = 32  # slices brought back at a time, which bounds the memory

TileIndex = tuple[int, int, int]
Start = tuple[int, int, int]
"""The first voxel (z, y, x) of a patch on the model grid; it may lie beyond the grid."""


@dataclass(frozen=True)
class ModelGrid:
    """Voxels of `spacing` mm along L, P, S; `origin` is voxel 0 in LPS mm, `shape` is z, y, x."""

    origin: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing: float = PAPER_SPACING

    @classmethod
    def covering(cls, geometry: Geometry, spacing: float = PAPER_SPACING) -> ModelGrid:
        """Return the smallest grid from the least corner of all voxel centres of a volume up to the greatest."""
        corners = geometry.corners()
        low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
        x, y, z = (int(n) + 1 for n in np.ceil(extent / spacing - 1e-6))  # rounding must not add a voxel
        return cls((float(low[0]), float(low[1]), float(low[2])), (z, y, x), spacing)

    @cached_property
    def geometry(self) -> Geometry:
        """The same grid as a Geometry."""
        return Geometry(self.shape, self.origin, (self.spacing,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))

    def to_voxels(self, points_lps: ArrayLike) -> NDArray[np.float64]:
        """Return the fractional voxel coordinates x, y, z of points in LPS mm; both (N, 3)."""
        return self.geometry.to_ijk(points_lps)

    def to_lps(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Return the LPS mm of voxel coordinates x, y, z; both (N, 3)."""
        return self.geometry.to_lps(voxels)

    def has_tile(self, index: Sequence[int]) -> bool:
        """Whether the tile (z, y, x), 64³ voxels from index * 64, holds any voxel of the grid."""
        return all(0 <= n * PATCH < size for n, size in zip(index, self.shape, strict=True))


class PatchSource(ABC):
    """Patches of a model grid, assembled out of tiles that a subclass provides."""

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
    """Yield the tiles that the 64³ voxels from `start` meet: index, the shared box in the tile, and in the patch."""
    first = [corner // PATCH for corner in start]
    for step in itertools.product((0, 1), repeat=3):
        z, y, x = (a + b for a, b in zip(first, step, strict=True))
        shifts = [n * PATCH - corner for n, corner in zip((z, y, x), start, strict=True)]
        if max(shifts) < PATCH:
            tile_z, tile_y, tile_x = (slice(max(0, -shift), min(PATCH, PATCH - shift)) for shift in shifts)
            patch_z, patch_y, patch_x = (slice(max(0, shift), min(PATCH, PATCH + shift)) for shift in shifts)
            yield (z, y, x), (tile_z, tile_y, tile_x), (patch_z, patch_y, patch_x)


class TileSampler(PatchSource):
    """Tiles of a CT, interpolated linearly when first asked for and kept in a bounded cache. Safe across threads."""

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
        # Whole groups of the voxels that are averaged, so that a tile does not depend on where it begins.
        groups = shrink_factors(ct.spacing, self.grid.spacing)[::-1]
        margin = 1 if max(groups) > 1 else 0
        z, y, x = (slice(-margin, n + margin) for n in target.shape)
        box = _aligned(ct.box_around(target.crop((z, y, x)).corners()), groups, ct.shape)
        voxels = self._volume.array[box].astype(np.float32)
        if voxels.size:
            # Padding such as -3024 is air, and must not bleed into its neighbours.
            image = shrunk(as_image(np.clip(voxels, AIR_HU, _HIGHEST_HU), ct.crop(box)), self.grid.spacing)
            values = interpolate(image, target, outside=AIR_HU)
            tile[tuple(slice(n) for n in target.shape)] = np.rint(values)
        return tile


def _aligned(box: Box, groups: Sequence[int], shape: Sequence[int]) -> Box:
    """The box widened to whole groups of voxels, counted from the CT's first, as far as the CT goes."""
    z, y, x = (
        slice(axis.start - axis.start % group, min(axis.stop + -axis.stop % group, size))
        for axis, group, size in zip(box, groups, shape, strict=True)
    )
    return z, y, x


def bring_back(
    probability: NDArray[np.uint8], start_zyx: Sequence[int], grid: ModelGrid, geometry: Geometry
) -> tuple[NDArray[np.uint8], Box]:
    """Return the mask of a probability on a volume's own grid: (mask 0 or 1, its box as slices in z, y, x).

    `probability` (z, y, x), 0..255 for 0..1, lies on `grid` at `start`, and is zero all around, so that a mask ends
    half a model voxel beyond the last voxel above 0.5. Only the box of the volume that it can reach is computed.
    """
    padded = np.pad(probability, 1)
    z, y, x = (slice(int(n) - 1, int(n) - 1 + size) for n, size in zip(start_zyx, padded.shape, strict=True))
    source = grid.geometry.crop((z, y, x))
    z, y, x = box = geometry.box_around(source.corners())
    mask = np.zeros([axis.stop - axis.start for axis in box], np.uint8)
    if mask.size and not _bring_back_along_axes(padded, source, geometry.crop(box), mask):
        image = as_image(padded, source)
        for first in range(z.start, z.stop, _SLAB):
            slab = slice(first, min(first + _SLAB, z.stop))
            values = interpolate(image, geometry.crop((slab, y, x)), outside=0)
            mask[slab.start - z.start : slab.stop - z.start] = values >= _HALF
    return mask, box


def _bring_back_along_axes(
    values: NDArray[np.uint8], source: Geometry, target: Geometry, mask: NDArray[np.uint8]
) -> bool:
    """Fill `mask` on `target` with where `values` on `source` are above the half, interpolating axis after axis.

    Possible, and some times faster than ITK, where the axes of both grids are parallel; else False. `values` are zero
    along their sides, and so is everything beyond them.
    """
    voxels = np.linalg.inv(source.ijk_to_lps) @ target.ijk_to_lps
    steps, origin = voxels[:3, :3], voxels[:3, 3]
    along = np.abs(steps).argmax(axis=1)  # the target's axis along each of the source's
    across = steps.copy()
    across[np.arange(3), along] = 0
    last = np.subtract(target.shape[::-1], 1)
    if len(set(along)) < 3 or np.max(np.abs(across) @ last) > _PARALLEL:
        return False
    x, y, z = (steps[axis, along[axis]] * np.arange(last[along[axis]] + 1) + origin[axis] for axis in range(3))
    planes = _lerp(_lerp(values.astype(np.float32), 2, x), 1, y)
    below, weights = _neighbours(z, len(planes))
    of_source = mask.transpose([2 - axis for axis in along[::-1]])
    for index, (start, weight) in enumerate(zip(below, weights, strict=True)):
        np.greater_equal(planes[start] + (planes[start + 1] - planes[start]) * weight, _HALF, out=of_source[index])
    return True


def _lerp(values: NDArray[np.float32], axis: int, coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
    """The values interpolated linearly at these coordinates of one axis."""
    below, weights = _neighbours(coordinates, values.shape[axis])
    low, high = values.take(below, axis), values.take(below + 1, axis)
    high -= low
    high *= weights.reshape([-1 if other == axis else 1 for other in range(3)])
    high += low
    return high


def _neighbours(coordinates: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The voxels below the coordinates along an axis of `size` voxels, and the weights of those above."""
    inside = np.clip(coordinates, 0, size - 1)
    below = np.minimum(inside.astype(np.intp), size - 2)
    return below, (inside - below).astype(np.float32)


def shrunk(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image with its voxels averaged as far as they fit into voxels of `spacing` mm, so that noise does not alias.

    At the paper's spacing it stays as it is, because the published code interpolates and no more.
    """
    factors = shrink_factors(image.GetSpacing(), spacing)
    if max(factors) == 1:
        return image
    missing = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    binned: sitk.Image = sitk.BinShrink(sitk.ZeroFluxNeumannPad(image, [0] * len(missing), missing), factors)
    return binned


def shrink_factors(own: Sequence[float], spacing: float) -> list[int]:
    """How many voxels of `own` mm, on each axis, are averaged for voxels of `spacing` mm."""
    if spacing <= PAPER_SPACING:
        return [1] * len(own)
    return [max(1, int(spacing / step + 1e-6)) for step in own]


def interpolate(image: sitk.Image, target: Geometry, outside: float) -> NDArray[np.float32]:
    """Return the image interpolated linearly at the voxel centres (z, y, x) of `target`."""
    resampled = sitk.Resample(
        image,
        target.shape[::-1],
        sitk.Transform(),
        sitk.sitkLinear,
        target.origin,
        target.spacing,
        target.direction,
        outside,
        sitk.sitkFloat32,
    )
    return sitk.GetArrayFromImage(resampled)
