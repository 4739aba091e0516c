"""Volumes cut into tiles, for work that fits into the processor's caches, and memory that is used again and again.

Volumes are (z, y, x, channel), tiles (z, y, x, tile, channel), float32 on the CPU. A volume's tiles are numbered in the
order z, y, x; work goes layer by layer of tiles along z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CHUNK = 64
"""Tiles that are worked on at a time."""
ROWS = 4096
"""Voxels that are summed at a time."""
EPSILON = 1e-5
"""Of instance norm, as PyTorch has it."""


class Scratch:
    """Memory for intermediates; fresh pages for each of them would cost more than the sums in it."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}
        self._padded: dict[tuple[str, int, int], Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; whatever was taken under the same name before is overwritten."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size)
        return flat[:size].view(shape)

    def padded(self, name: str, side: int, channels: int) -> Tensor:
        """A volume of `side`³ voxels within a border of zeros, which nobody writes to; its inside is as it was left."""
        key = (name, side, channels)
        if key not in self._padded:
            self._padded[key] = torch.zeros(side + 2, side + 2, side + 2, channels)
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

    def layers(self) -> Iterator[range]:
        """Layers of tiles, as many at a time as make about `CHUNK` tiles."""
        step = max(1, CHUNK // self.along**2)
        for first in range(0, self.along, step):
            yield range(first, min(first + step, self.along))

    def tiles_in(self, layers: range) -> Tensor:
        """The numbers of the tiles in these layers."""
        return torch.arange(layers.start * self.along**2, layers.stop * self.along**2)

    def view(self, volume: Tensor, layers: range) -> Tensor:
        """The tiles of these layers as a view of the volume: (z, y, x, layer, tile along y, tile along x, channel)."""
        planes = volume[layers.start * self.tile : layers.stop * self.tile]
        split = planes.unflatten(2, (-1, self.tile)).unflatten(1, (-1, self.tile)).unflatten(0, (-1, self.tile))
        return split.permute(1, 3, 5, 0, 2, 4, 6)

    def take(self, padded: Tensor, numbers: Tensor, scratch: Scratch) -> Tensor:
        """Tiles by their numbers with one voxel around them, out of a padded volume; in scratch memory."""
        channels = padded.shape[-1]
        around = scratch.take("around", *(self.tile + 2,) * 3, len(numbers), channels)
        voxels = self._surroundings[:, None] + self._corners[numbers]
        torch.index_select(padded.view(-1, channels), 0, voxels.flatten(), out=around.view(-1, channels))
        return around

    @cached_property
    def borders(self) -> Tensor:
        """For each tile which of 27 it is: at the first, the last or no side of the volume along z, y and x."""
        place = torch.ones(self.along, dtype=torch.long)
        place[0], place[-1] = 0, 2
        return (9 * place[:, None, None] + 3 * place[:, None] + place).flatten()

    @cached_property
    def _corners(self) -> Tensor:
        return self._offsets(torch.arange(self.along) * self.tile)

    @cached_property
    def _surroundings(self) -> Tensor:
        return self._offsets(torch.arange(self.tile + 2))

    def _offsets(self, along: Tensor) -> Tensor:
        """Voxels of the padded volume at all combinations of positions along z, y and x."""
        row = self.side + 2
        return (along[:, None, None] * row**2 + along[:, None] * row + along).flatten()


def volumes_of(features: Tensor) -> list[Tensor]:
    """(batch, channel, z, y, x) as contiguous volumes (z, y, x, channel)."""
    return list(features.permute(0, 2, 3, 4, 1).contiguous())


def features_of(volumes: list[Tensor]) -> Tensor:
    """The inverse of `volumes_of`."""
    together = volumes[0][None] if len(volumes) == 1 else torch.stack(volumes)
    return together.permute(0, 4, 1, 2, 3)


def statistics(volume: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each channel, and the reciprocal of its standard deviation as instance norm takes it."""
    rows = volume.reshape(-1, volume.shape[-1])
    ones = torch.ones(1, len(rows))
    mean = ones @ rows / len(rows)
    squares = torch.zeros_like(mean)
    for part in rows.split(ROWS):
        centred = part - mean
        squares += ones[:, : len(part)] @ centred.mul_(centred)
    return mean[0], (squares[0] / len(rows) + EPSILON).rsqrt()
