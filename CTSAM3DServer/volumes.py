"""The volumes that users have told the server of, and the tiles that they have uploaded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import AIR_HU
from CTSAM3DLib.segmentation.patch_grid import PATCH, ModelGrid, PatchSource, Start, TileIndex, tiles_under

MAX_AXIS = 4096
"""Voxels along an axis of a CT, and of the model grid over it."""
LARGEST_GRID = 400_000_000
"""Voxels of a model grid: a tall patient in a wide field of view at 1.5 mm."""
SMALL_THINGS = 4096
"""Bytes that anything kept is taken to need beside its arrays."""


class UnknownVolumeError(CTSAM3DError):
    """The server does not know the volume; its client tells it of it again."""


class MissingTiles(Exception):  # noqa: N818 - a wish of the server's, which a client fulfils
    """The network was to look at tiles that are not there."""

    def __init__(self, tiles: list[TileIndex]) -> None:
        super().__init__(f"{len(tiles)} tiles are missing")
        self.tiles = tiles


@dataclass(frozen=True)
class ServedVolume:
    """A volume of one user's. Everything kept of it lies in the cache under keys that begin with this object."""

    owner: str
    id: str
    geometry: Geometry
    spacing: float
    """Voxel of the model grid, mm."""

    @cached_property
    def grid(self) -> ModelGrid:
        """The model grid over the volume, which client and server work out alike."""
        return ModelGrid.covering(self.geometry, self.spacing)

    def check(self) -> None:
        """Raise CTSAM3DError for a volume that no CT can be."""
        extent = np.ptp(self.geometry.corners(), axis=0)
        if max(self.geometry.shape) > MAX_AXIS or not np.all(extent <= MAX_AXIS * self.spacing):
            raise CTSAM3DError(f"The volume is larger than {MAX_AXIS} voxels along an axis; crop it.")
        if math.prod(self.grid.shape) > LARGEST_GRID:
            raise CTSAM3DError("The volume is larger than any patient; crop it, or mend its header.")
        if np.abs(self.geometry.corners()).max() > 1e6:
            raise CTSAM3DError("The volume lies more than a kilometre away from its origin; mend its header.")


class Volumes:
    """The volumes of all users, each seen by its owner alone."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def put(self, volume: ServedVolume) -> None:
        """Know this volume from now on, in place of an older one of the same id. Raises CTSAM3DError."""
        volume.check()
        self._cache.put(("volume", volume.owner, volume.id), volume, SMALL_THINGS)

    def get(self, owner: str, volume_id: str) -> ServedVolume:
        """The volume of this owner. Raises UnknownVolumeError for another's just as for one that was never there."""
        volume: ServedVolume | None = self._cache.get(("volume", owner, volume_id))
        if volume is None:
            raise UnknownVolumeError("The server does not know this volume; tell it of it by PUT /v1/volumes/{id}.")
        return volume


class UploadedTiles(PatchSource):
    """The tiles of a volume that are in the cache."""

    def __init__(self, volume: ServedVolume, cache: Cache) -> None:
        self.grid = volume.grid
        self._volume = volume
        self._cache = cache

    def tile(self, index_zyx: TileIndex) -> NDArray[np.int16]:
        """Return HU of the 64³ voxels (z, y, x) from index * 64; AIR_HU beyond the grid. Raises MissingTiles."""
        uploaded = self._cache.get((self._volume, "tile", index_zyx))
        if uploaded is None:
            raise MissingTiles([index_zyx])
        tile = np.full((PATCH,) * 3, AIR_HU, np.int16)
        tile[tuple(slice(n) for n in uploaded.shape)] = uploaded
        return tile

    def add(self, index_zyx: TileIndex, inside: NDArray[np.int16]) -> None:
        """Keep the part of a tile that lies in the grid."""
        self._cache.put((self._volume, "tile", index_zyx), inside, inside.nbytes + SMALL_THINGS)

    def missing(self, starts: Iterable[Start]) -> list[TileIndex]:
        """The tiles under these patches that have to be uploaded before the network can look at them."""
        under = {index for start in starts for index, _, _ in tiles_under(start) if self.grid.has_tile(index)}
        return sorted(index for index in under if (self._volume, "tile", index) not in self._cache)
