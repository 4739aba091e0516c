"""Volumes that users have registered, and the tiles that they have uploaded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.constants import AIR_HU, PATCH
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.segmentation.patch_grid import ModelGrid, PatchSource, Start, TileIndex, tiles_under

MAX_AXIS = 4096
"""Voxels along an axis of a CT, and of its model grid."""
MAX_GRID = 400_000_000
"""Voxels of a model grid: a tall patient in a wide field of view at 1.5 mm."""
OBJECT_BYTES = 4096
"""Bytes that a cached object is taken to need beside its arrays."""


class UnknownVolumeError(CTSAM3DError):
    """The volume is not registered (any more); the client registers it again."""


class MissingTiles(Exception):  # noqa: N818 - a request to the client, not a failure
    """Tiles that the network needs are not in the cache."""

    def __init__(self, tiles: list[TileIndex]) -> None:
        super().__init__(f"{len(tiles)} tiles are missing")
        self.tiles = tiles


@dataclass(frozen=True)
class ServedVolume:
    """A registered volume of one user; it is the first part of the cache keys of its tiles, features and states."""

    owner: str
    id: str
    geometry: Geometry
    spacing: float
    """mm. Voxel size of the model grid."""

    @cached_property
    def grid(self) -> ModelGrid:
        """The volume's model grid; client and server compute the same."""
        return ModelGrid.covering(self.geometry, self.spacing)

    def check(self) -> None:
        """Raise CTSAM3DError for a geometry that no CT has."""
        extent = np.ptp(self.geometry.corners(), axis=0)
        if max(self.geometry.shape) > MAX_AXIS or not np.all(extent <= MAX_AXIS * self.spacing):
            raise CTSAM3DError(f"The volume is larger than {MAX_AXIS} voxels along an axis; crop it.")
        if math.prod(self.grid.shape) > MAX_GRID:
            raise CTSAM3DError("The volume is larger than any patient; crop it, or mend its header.")
        if np.abs(self.geometry.corners()).max() > 1e6:
            raise CTSAM3DError("The volume lies more than a kilometre away from its origin; mend its header.")


class Volumes:
    """The volumes of all users; a user has access to their own alone."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def put(self, volume: ServedVolume) -> None:
        """Register a volume, in place of an older one of the same owner and id. Raises CTSAM3DError."""
        volume.check()
        self._cache.put(("volume", volume.owner, volume.id), volume, OBJECT_BYTES)

    def get(self, owner: str, volume_id: str) -> ServedVolume:
        """The volume of this owner. Raises UnknownVolumeError for another user's volume as for one never registered."""
        volume: ServedVolume | None = self._cache.get(("volume", owner, volume_id))
        if volume is None:
            raise UnknownVolumeError("The server does not know this volume; tell it of it by PUT /v1/volumes/{id}.")
        return volume


class UploadedTiles(PatchSource):
    """The uploaded tiles of a volume, in the cache."""

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
        """Store the part of a tile (z, y, x), HU, that lies in the grid."""
        self._cache.put((self._volume, "tile", index_zyx), inside, inside.nbytes + OBJECT_BYTES)

    def missing(self, starts: Iterable[Start]) -> list[TileIndex]:
        """The tiles under these patches that are not in the cache, sorted."""
        under = {index for start in starts for index, _, _ in tiles_under(start) if self.grid.has_tile(index)}
        return sorted(index for index in under if (self._volume, "tile", index) not in self._cache)
