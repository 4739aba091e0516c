"""Half a prompt block for many channels: minimal filtering, and γ and β only where the prompts vary and changed.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PromptNorm
from CTSAM3DLib.model.responses import Responses
from CTSAM3DLib.model.tiles import Moments, Scratch, TileGrid, inside
from CTSAM3DLib.model.winograd import WinogradConv


def tile_on(side: int) -> int:
    """The side of the tiles of a grid; on 8³, tiles of 4³ would be too few for their larger weights."""
    return 2 if side <= 8 else 4


class TiledHalf:
    """A prompt norm, leaky ReLU and convolution on the tiles of a grid of `side`³ voxels."""

    def __init__(
        self, name: str, norm: PromptNorm, weight: Tensor, bias: Tensor | None, side: int, crew: Crew, shared: Scratch
    ) -> None:
        self._crew, self._shared = crew, shared
        self._grid = TileGrid(side, tile_on(side))
        self._parts = self._grid.layers()
        self._responses = Responses(name, norm, self._grid, shared)
        self._conv = WinogradConv(weight, bias, self._grid)

    def responding(self, prompts: Tensor) -> list[list[partial[None]]]:
        """γ and β, in two rounds."""
        return self._responses.responding(prompts)

    def __call__(self, x: Tensor, moments: Moments, onto: Tensor | None, out: Tensor) -> None:
        normed = self._shared.padded("normed", self._grid.side, x.shape[-1])
        scale = moments.scale()
        self._crew.each(partial(self._norm, x, scale, -moments.mean * scale, normed), self._parts)
        self._crew.each(partial(self._convolve, normed, onto, out), self._parts)

    def _norm(self, x: Tensor, scale: Tensor, shift: Tensor, normed: Tensor, layers: range, scratch: Scratch) -> None:
        source = self._grid.view(x, layers)
        tiles = torch.addcmul(shift, source, scale, out=scratch.take("features", *source.shape))
        gamma, beta = self._responses.of(layers).view(*source.shape[:-1], -1).chunk(2, dim=-1)
        torch.addcmul(beta, tiles, gamma, out=tiles)
        torch.ops.aten.leaky_relu.out(tiles, 0.2, out=self._grid.view(inside(normed), layers))

    def _convolve(self, normed: Tensor, onto: Tensor | None, out: Tensor, layers: range, scratch: Scratch) -> None:
        slabs = self._grid.slabs(normed, layers)
        planes = self._conv.planes(slabs, scratch.take("planes", *slabs.shape))
        tiles = self._conv(planes, torch.arange(len(layers) * self._grid.along**2), scratch)
        target = self._grid.view(out, layers)
        if onto is None:
            target.copy_(tiles.view(target.shape))
        else:
            torch.add(self._grid.view(onto, layers), tiles.view(target.shape), out=target)
