"""Volumes cut into tiles, for work that fits into the processor's caches, and memory that is used again and again.

Volumes are (z, y, x, channel), tiles (z, y, x, tile, channel), float32 on the CPU. A volume's tiles are numbered in the
order z, y, x; work goes layer by layer of tiles along z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 32
"""Tiles that are worked on at a time."""
CACHED = 2**17
"""Numbers that are summed at a time, in a core's own cache."""
EPSILON = 1e-5
"""Of instance norm, as PyTorch has it."""


class Scratch:
    """Memory for intermediates; fresh pages for each of them would cost more than the sums in it."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}
        self._padded: dict[tuple[object, ...], Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; whatever was taken under the same name before is overwritten."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size)
        return flat[:size].view(shape)

    def padded(self, name: str, side: int, channels: int) -> Tensor:
        """A volume of `side`³ voxels within a border of zeros, which nobody writes to; its inside is as it was left."""
        return self._zeros(name, side + 2, side + 2, side + 2, channels)

    def padded_across_z(self, name: str, planes: int, side: int, channels: int) -> Tensor:
        """So many planes, each of `side`² voxels within a border of zeros."""
        return self._zeros(name, planes, side + 2, side + 2, channels)

    def padded_along_z(self, name: str, side: int, border: int, channels: int) -> Tensor:
        """The same with a border of so many planes along z only."""
        return self._zeros(name, side + 2 * border, side, side, channels)

    def _zeros(self, name: str, *shape: int) -> Tensor:
        key = (name, *shape)
        if key not in self._padded:
            self._padded[key] = torch.zeros(shape)
        return self._padded[key]


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
        """Layers of tiles, about `BLOCK` tiles at a time."""
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
        """These layers with a voxel around them as a view of the padded volume, in which they overlap by two planes.

        (layer, z, voxel of a plane and channel).
        """
        plane = (self.side + 2) ** 2 * padded.shape[-1]
        shape, strides = (len(layers), self.tile + 2, plane), (self.tile * plane, plane, 1)
        return padded.as_strided(shape, strides, padded.storage_offset() + layers.start * self.tile * plane)

    def voxels(self, numbers: Tensor) -> Tensor:
        """Where the voxels of tiles and those around them lie in the slabs of as many layers as it takes.

        `numbers` count from the first layer's first tile. (z, y and x, number of the tile), numbers of voxels.
        """
        return self._around[:, None] + self._corners[numbers]

    def blocks(self, numbers: Tensor) -> list[Tensor]:
        """Tiles by these numbers in as few blocks of `BLOCK` as have a row for each, and -1 in rows that stay empty.

        A tile always has the same row, whichever tiles are asked for: products round rows of other places, and those of
        products of other sizes, differently on some processors.
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
        """For each tile which of 27 it is: at the first, the last or no side of the volume along z, y and x."""
        place = torch.ones(self.along, dtype=torch.long)
        place[0], place[-1] = 0, 2
        return (9 * place[:, None, None] + 3 * place[:, None] + place).flatten()

    @cached_property
    def _rows(self) -> Tensor:
        """The row of every tile in its block; those that lie near one another, as after a click, seldom share one."""
        along = torch.arange(self.along)
        return ((26 * along[:, None, None] + 24 * along[:, None] + along) % BLOCK).flatten()

    @cached_property
    def _corners(self) -> Tensor:
        """The first voxel of every tile in the slabs."""
        row, along = self.side + 2, torch.arange(self.along)
        layer = along * (self.tile + 2) * row**2
        return (layer[:, None, None] + along[:, None] * self.tile * row + along * self.tile).flatten()

    @cached_property
    def _around(self) -> Tensor:
        """The voxels of a slab from a tile's first on."""
        return cube_in(self.side + 2, self.tile + 2)


def cube_in(row: int, side: int) -> Tensor:
    """The numbers of the voxels of a cube of `side`³ at the first corner of a volume whose lines have `row` voxels."""
    along = torch.arange(side)
    return (along[:, None, None] * row**2 + along[:, None] * row + along).flatten()


def volumes_of(features: Tensor) -> list[Tensor]:
    """(batch, channel, z, y, x) as contiguous volumes (z, y, x, channel)."""
    return list(features.permute(0, 2, 3, 4, 1).contiguous())


def features_of(volumes: Sequence[Tensor]) -> Tensor:
    """The inverse of `volumes_of`."""
    together = volumes[0][None] if len(volumes) == 1 else torch.stack(list(volumes))
    return together.permute(0, 4, 1, 2, 3)


class Moments(NamedTuple):
    """Of each channel of some voxels: how many they are, their mean, and the sum of their squared distances from it."""

    voxels: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """Of voxels (voxel, channel)."""
        ones = torch.ones(1, len(rows))
        mean = ones @ rows / len(rows)
        squares = torch.zeros_like(mean)
        step = min(max(1, CACHED // rows.shape[1]), len(rows))
        centred = torch.empty(step, rows.shape[1])
        for part in rows.split(step):
            distances = torch.sub(part, mean, out=centred[: len(part)])
            squares += ones[:, : len(part)] @ distances.mul_(distances)
        return cls(len(rows), mean[0], squares[0])

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """Of all voxels, from those of parts of them (Chan, Golub and LeVeque, 1979)."""
        voxels = sum(part.voxels for part in parts)
        mean = torch.stack([part.mean * (part.voxels / voxels) for part in parts]).sum(dim=0)
        squares = torch.stack([part.squares + part.voxels * (part.mean - mean).square() for part in parts]).sum(dim=0)
        return cls(voxels, mean, squares)

    def scale(self) -> Tensor:
        """The reciprocal of each channel's standard deviation as instance norm takes it."""
        return (self.squares / self.voxels + EPSILON).rsqrt()
