"""One unit of a SPADE block with many channels: Winograd convolution, with γ and β recomputed where prompts changed.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.mean_variance import MeanVariance
from CTSAM3DLib.execution.cpu.modulation_cache import ModulationCache
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import TileGrid, inside
from CTSAM3DLib.execution.cpu.winograd import WinogradConv
from CTSAM3DLib.model.spade import SpadeNorm


def tile_on(side: int) -> int:
    """Side of the tiles on a grid of `side`³ voxels; on 8³ tiles of 4³ would be too few for their larger weights."""
    return 2 if side <= 8 else 4


class TiledUnit:
    """SPADE norm, leaky ReLU and convolution on the tiles of a grid of `side`³ voxels."""

    def __init__(
        self,
        name: str,
        norm: SpadeNorm,
        weight: Tensor,
        bias: Tensor | None,
        side: int,
        team: ThreadTeam,
        shared: BufferPool,
    ) -> None:
        self._team, self._shared = team, shared
        self._grid = TileGrid(side, tile_on(side))
        self._parts = self._grid.layers()
        self._modulation = ModulationCache(name, norm, self._grid, shared)
        self._conv = WinogradConv(weight, bias, self._grid)

    def modulation_tasks(self, prompts: Tensor) -> list[list[partial[None]]]:
        """Tasks that compute γ and β, in two rounds."""
        return self._modulation.modulation_tasks(prompts)

    def __call__(self, x: Tensor, statistics: MeanVariance, onto: Tensor | None, out: Tensor) -> None:
        normed = self._shared.padded("normed", self._grid.side, x.shape[-1])
        scale = statistics.scale()
        self._team.map(partial(self._norm, x, scale, -statistics.mean * scale, normed), self._parts)
        self._team.map(partial(self._convolve, normed, onto, out), self._parts)

    def _norm(
        self, x: Tensor, scale: Tensor, shift: Tensor, normed: Tensor, layers: range, buffers: BufferPool
    ) -> None:
        source = self._grid.view(x, layers)
        tiles = torch.addcmul(shift, source, scale, out=buffers.take("features", *source.shape))
        gamma, beta = self._modulation.maps(layers).view(*source.shape[:-1], -1).chunk(2, dim=-1)
        torch.addcmul(beta, tiles, gamma, out=tiles)
        torch.ops.aten.leaky_relu.out(tiles, 0.2, out=self._grid.view(inside(normed), layers))

    def _convolve(self, normed: Tensor, onto: Tensor | None, out: Tensor, layers: range, buffers: BufferPool) -> None:
        slabs = self._grid.slabs(normed, layers)
        planes = self._conv.planes(slabs, buffers.take("planes", *slabs.shape))
        tiles = self._conv(planes, torch.arange(len(layers) * self._grid.along**2), buffers)
        target = self._grid.view(out, layers)
        if onto is None:
            target.copy_(tiles.view(target.shape))
        else:
            torch.add(self._grid.view(onto, layers), tiles.view(target.shape), out=target)
