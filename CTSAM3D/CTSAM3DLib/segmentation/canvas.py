"""The canvas: the probabilities of a structure so far, a sparse and immutable map on the model grid.

Values are uint8: 0 where no patch has covered a voxel, 1..255 for probabilities, 128 and above for the mask. A canvas
shares unchanged tiles with the canvas that it was made from, so caching one for every click costs little.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.imaging.geometry import Box, filled_box
from CTSAM3DLib.segmentation.patch_grid import Start, TileIndex, tiles_under

MASK = 128
"""Lowest value that belongs to the mask, probability 0.5; `bring_back` uses the same threshold."""


@dataclass(frozen=True)
class Canvas:
    """Probabilities in tiles of 64³ voxels (z, y, x), uint8 and read-only, by tile index (z, y, x)."""

    tiles: Mapping[TileIndex, NDArray[np.uint8]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of_dense(cls, values: NDArray[np.uint8], start: Start) -> Canvas:
        """The inverse of `dense`: a canvas with values (z, y, x) from voxel `start` on, and 0 elsewhere."""
        first = [corner // PATCH for corner in start]
        before = [corner % PATCH for corner in start]
        padding = [(b, -(b + size) % PATCH) for b, size in zip(before, values.shape, strict=True)]
        padded = np.pad(values, padding)
        padded.flags.writeable = False
        tiles = {}
        for step in itertools.product(*(range(size // PATCH) for size in padded.shape)):
            z, y, x = (a + b for a, b in zip(first, step, strict=True))
            tiles[z, y, x] = padded[tuple(slice(n * PATCH, (n + 1) * PATCH) for n in step)]
        return cls(MappingProxyType(tiles))

    def read(self, start: Start) -> NDArray[np.uint8]:
        """The patch (64, 64, 64) from voxel `start` (z, y, x) on; 0 where no patch has covered a voxel."""
        patch = np.zeros((PATCH,) * 3, np.uint8)
        for index, of_tile, of_patch in tiles_under(start):
            if index in self.tiles:
                patch[of_patch] = self.tiles[index][of_tile]
        return patch

    def read_box(self, box: Box) -> NDArray[np.uint8]:
        """The values in a box, slices in z, y, x of the model grid; zero where nothing is known."""
        values = np.zeros([axis.stop - axis.start for axis in box], np.uint8)
        for z, y, x in itertools.product(*(range(axis.start, axis.stop, PATCH) for axis in box)):
            firsts = [n - axis.start for n, axis in zip((z, y, x), box, strict=True)]
            part = values[tuple(slice(first, first + PATCH) for first in firsts)]
            part[:] = self.read((z, y, x))[tuple(slice(size) for size in part.shape)]
        return values

    def write(self, start: Start, patch: NDArray[np.uint8]) -> Canvas:
        """A new canvas with the patch (64, 64, 64) written from voxel `start` (z, y, x) on."""
        tiles = dict(self.tiles)
        for index, of_tile, of_patch in tiles_under(start):
            tile = tiles[index].copy() if index in tiles else np.zeros((PATCH,) * 3, np.uint8)
            tile[of_tile] = patch[of_patch]
            tile.flags.writeable = False
            tiles[index] = tile
        return Canvas(MappingProxyType(tiles))

    def dense(self) -> tuple[NDArray[np.uint8], Start]:
        """The probabilities (z, y, x) in the mask's box, one voxel wider on every side, and the box's first voxel."""
        masked = [index for index, tile in self.tiles.items() if tile.max() >= MASK]
        if not masked:
            return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
        low = np.min(masked, axis=0)
        values = np.zeros((np.max(masked, axis=0) - low + 1) * PATCH, np.uint8)
        for index, tile in self.tiles.items():
            z, y, x = (np.array(index) - low) * PATCH
            if min(z, y, x) >= 0 and np.all(np.array((z, y, x)) < values.shape):
                values[z : z + PATCH, y : y + PATCH, x : x + PATCH] = tile
        box = filled_box(values >= MASK, margin=1)
        z, y, x = (int(n) * PATCH + axis.start for n, axis in zip(low, box, strict=True))
        return values[box], (z, y, x)
