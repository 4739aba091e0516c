"""Volumes cut into tiles that fit into the processor's caches.

Volumes are (z, y, x, channel), tiles (z, y, x, tile, channel), float32 on the CPU. A volume's tiles are numbered in the
order z, y, x; work goes layer by layer of tiles along z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 32
"""Tiles processed at a time."""


def inside(padded: Tensor) -> Tensor:
    """A padded volume without its border."""
    return padded[1:-1, 1:-1, 1:-1]


@dataclass(frozen=True)
class TileGrid:
    """A cube of `side`³ voxels in tiles of `tile`³."""

    side: int
    tile: int

    @property
    def along(self) -> int:
        """Tiles along one axis."""
        return self.side // self.tile

    def layers(self) -> list[range]:
        """The layers of tiles in groups of about `BLOCK` tiles."""
        step = max(1, BLOCK // self.along**2)
        return [range(first, min(first + step, self.along)) for first in range(0, self.along, step)]

    def tiles_in(self, layers: range) -> slice:
        """The numbers of the tiles in these layers."""
        return slice(layers.start * self.along**2, layers.stop * self.along**2)

    def view(self, volume: Tensor, layers: range) -> Tensor:
        """The tiles of these layers as a view of the volume: (z, y, x, layer, tile along y, tile along x, channel)."""
        planes = volume[layers.start * self.tile : layers.stop * self.tile]
        split = planes.unflatten(2, (-1, self.tile)).unflatten(1, (-1, self.tile)).unflatten(0, (-1, self.tile))
        return split.permute(1, 3, 5, 0, 2, 4, 6)

    def slabs(self, padded: Tensor, layers: range) -> Tensor:
        """Each of these layers with one voxel around it, as a view of the padded volume.

        (layer, z, (y, x, channel)); consecutive layers overlap by two planes.
        """
        plane = (self.side + 2) ** 2 * padded.shape[-1]
        shape, strides = (len(layers), self.tile + 2, plane), (self.tile * plane, plane, 1)
        return padded.as_strided(shape, strides, padded.storage_offset() + layers.start * self.tile * plane)

    def voxels(self, numbers: Tensor) -> Tensor:
        """Indices in slabs of the voxels of tiles with one voxel around them: ((z, y, x), tile).

        `numbers` of tiles count from the first tile of the first layer.
        """
        return self._around[:, None] + self._corners[numbers]

    def blocks(self, numbers: Tensor) -> list[Tensor]:
        """Tiles in as few blocks of `BLOCK` rows as possible, with -1 in empty rows.

        A tile always has the same row, whichever tiles are computed: on some processors a matrix product rounds a row
        differently in another place or in a product of another size.
        """
        rows = self._rows[numbers]
        order = rows.argsort(stable=True)
        rows, numbers = rows[order], numbers[order]
        count = torch.bincount(rows, minlength=BLOCK)
        block = torch.arange(len(rows)) - (count.cumsum(0) - count)[rows]
        blocks = torch.full((int(count.max()), BLOCK), -1)
        blocks[block, rows] = numbers
        return list(blocks)

    @cached_property
    def borders(self) -> Tensor:
        """For each tile its kind, 0..26: whether it lies at the first, the last or no side of the volume, by axis."""
        place = torch.ones(self.along, dtype=torch.long)
        place[0], place[-1] = 0, 2
        return (9 * place[:, None, None] + 3 * place[:, None] + place).flatten()

    @cached_property
    def _rows(self) -> Tensor:
        """The row of every tile in a block; tiles near one another, as after a click, seldom have the same row."""
        along = torch.arange(self.along)
        return ((26 * along[:, None, None] + 24 * along[:, None] + along) % BLOCK).flatten()

    @cached_property
    def _corners(self) -> Tensor:
        """Index of the first voxel of every tile in the slabs."""
        row, along = self.side + 2, torch.arange(self.along)
        layer = along * (self.tile + 2) * row**2
        return (layer[:, None, None] + along[:, None] * self.tile * row + along * self.tile).flatten()

    @cached_property
    def _around(self) -> Tensor:
        """Indices of a tile's voxels in a slab, relative to its first voxel."""
        return cube_in(self.side + 2, self.tile + 2)


def cube_in(row: int, side: int) -> Tensor:
    """Indices of the voxels of a cube of `side`³ in the first corner of a volume of `row`³ voxels."""
    along = torch.arange(side)
    return (along[:, None, None] * row**2 + along[:, None] * row + along).flatten()


def volumes_of(features: Tensor) -> list[Tensor]:
    """(batch, channel, z, y, x) as contiguous volumes (z, y, x, channel)."""
    return list(features.permute(0, 2, 3, 4, 1).contiguous())


def features_of(volumes: Sequence[Tensor]) -> Tensor:
    """The inverse of `volumes_of`."""
    batch = volumes[0][None] if len(volumes) == 1 else torch.stack(list(volumes))
    return batch.permute(0, 4, 1, 2, 3)
