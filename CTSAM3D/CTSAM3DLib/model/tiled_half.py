"""Half a prompt block for many channels: minimal filtering, and γ and β computed only where the prompts vary.

A tile whose surroundings hold one of the `CONSTANTS`, for nothing known, background and structure, has γ and β that
depend on that constant and on the sides of the volume that the tile lies at; these are computed once. Nothing is
approximated.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PROMPT_MAPS, PromptNorm
from CTSAM3DLib.model.slab_half import SlabConv
from CTSAM3DLib.model.tiles import Moments, Scratch, TileGrid, inside, volumes_of
from CTSAM3DLib.model.winograd import WinogradConv

CONSTANTS = ((0.0, 0.0, 0.0), (1 / 255, 0.0, 0.0), (1.0, 0.0, 0.0))
"""[previous, positive, negative] where nothing is known, in the background and in the structure, away from clicks."""


def tile_on(side: int) -> int:
    """The side of the tiles of a grid; on 8³, tiles of 4³ would be too few for their larger weights."""
    return 2 if side <= 8 else 4


class TiledHalf:
    """A prompt norm, leaky ReLU and convolution on the tiles of a grid of `side`³ voxels."""

    def __init__(
        self, name: str, norm: PromptNorm, weight: Tensor, bias: Tensor | None, side: int, crew: Crew, shared: Scratch
    ) -> None:
        self._name, self._grid = name, TileGrid(side, tile_on(side))
        self._crew, self._shared = crew, shared
        self._parts = self._grid.layers(crew.parts_for(side**3 * len(weight)))
        self._responses = Responses(norm, self._grid)
        self._conv = WinogradConv(weight, bias, self._grid)
        self._kinds, self._hidden = torch.empty(0), torch.empty(0)

    def responding(self, prompts: Tensor) -> list[partial[None]]:
        """The hidden maps that γ and β are read off, in the layers of tiles where the prompts vary."""
        side = self._grid.side
        self._kinds = kinds_of_tiles(prompts, self._grid)
        self._hidden = self._shared.padded(f"hidden, {self._name}", side, self._responses.shared.new_channels)
        maps = self._shared.padded_along_z("maps", side, 1, prompts.shape[1])
        maps[1:-1].copy_(volumes_of(prompts)[0])
        varying = (self._kinds < 0).view(self._grid.along, -1).any(dim=1)
        seen = varying.clone()  # those whose planes the convolution of a layer that varies sees
        seen[1:] |= varying[:-1]
        seen[:-1] |= varying[1:]
        return [
            partial(self._respond, maps, layers) for layers in self._parts if seen[layers.start : layers.stop].any()
        ]

    def _respond(self, maps: Tensor, layers: range, _: Scratch) -> None:
        planes = slice(layers.start * self._grid.tile, layers.stop * self._grid.tile)
        hidden = self._responses.shared(maps[planes.start : planes.stop + 2])
        torch.clamp_min(hidden, 0, out=inside(self._hidden)[planes])

    def __call__(self, x: Tensor, moments: Moments, onto: Tensor | None, out: Tensor) -> None:
        normed = self._shared.padded("normed", self._grid.side, x.shape[-1])
        scale = moments.scale()
        self._crew.each(partial(self._norm, x, scale, -moments.mean * scale, normed), self._parts)
        self._crew.each(partial(self._convolve, normed, onto, out), self._parts)

    def _norm(self, x: Tensor, scale: Tensor, shift: Tensor, normed: Tensor, layers: range, scratch: Scratch) -> None:
        gamma_and_beta = self._responses(self._hidden, layers, self._kinds[self._grid.tiles_in(layers)], scratch)
        source = self._grid.view(x, layers)
        tiles = torch.addcmul(shift, source, scale, out=scratch.take("features", *source.shape))
        gamma, beta = gamma_and_beta.view(*source.shape[:-1], -1).chunk(2, dim=-1)
        torch.addcmul(beta, tiles, gamma, out=tiles)
        torch.ops.aten.leaky_relu.out(tiles, 0.2, out=self._grid.view(inside(normed), layers))

    def _convolve(self, normed: Tensor, onto: Tensor | None, out: Tensor, layers: range, scratch: Scratch) -> None:
        tiles = self._conv(normed, layers, torch.arange(len(layers) * self._grid.along**2), scratch)
        target = self._grid.view(out, layers)
        if onto is None:
            target.copy_(tiles.view(target.shape))
        else:
            torch.add(self._grid.view(onto, layers), tiles.view(target.shape), out=target)


class Responses:
    """γ + 1 and β of one prompt norm, tile by tile."""

    def __init__(self, norm: PromptNorm, grid: TileGrid) -> None:
        self.shared = SlabConv(norm.shared.weight, norm.shared.bias)
        self._grid = grid
        convolution = norm.scale_and_shift
        assert convolution.bias is not None
        bias = convolution.bias.detach().clone()
        bias[: len(bias) // 2] += 1
        self._conv = WinogradConv(convolution.weight, bias, grid)
        # With guidance there are more maps than three, and hardly a tile in which they are constant.
        if norm.shared.in_channels == PROMPT_MAPS:
            self._constant = torch.cat([self._to_constant(norm, value) for value in CONSTANTS], dim=3)

    def _to_constant(self, norm: PromptNorm, value: tuple[float, float, float]) -> Tensor:
        """(z, y, x, 27, channel): the tiles of a volume of three along each axis, which lie at all kinds of borders."""
        side = 3 * self._grid.tile
        prompts = torch.tensor(value).view(1, PROMPT_MAPS, 1, 1, 1).expand(1, PROMPT_MAPS, side, side, side)
        (response,) = volumes_of(norm.scale_and_shift(F.relu(norm.shared(prompts.contiguous()))).detach())
        response[..., : response.shape[-1] // 2] += 1
        return TileGrid(side, self._grid.tile).view(response, range(3)).flatten(3, 5)

    def __call__(self, hidden: Tensor, layers: range, kinds: Tensor, scratch: Scratch) -> Tensor:
        """(z, y, x, tile, 2 * width) for all tiles in these layers, which are of these `kinds_of_tiles`."""
        varying = (kinds < 0).nonzero()[:, 0]
        if len(varying) == len(kinds):
            return self._conv(hidden, layers, varying, scratch)
        shape = (*(self._grid.tile,) * 3, len(kinds), self._conv.new_channels)
        responses = scratch.take("responses", *shape)
        torch.index_select(self._constant, 3, kinds.clamp(min=0), out=responses)
        if len(varying):
            responses.index_copy_(3, varying, self._conv(hidden, layers, varying, scratch))
        return responses


def kinds_of_tiles(prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile the number of its response among the constant ones, or -1 where the prompts in its reach vary."""
    kinds = torch.full_like(grid.borders, -1)
    if prompts.shape[1] != PROMPT_MAPS:
        return kinds
    # Two convolutions of 3³ see two voxels beyond the tile. What lies outside repeats the border, and changes nothing.
    highest = lowest = F.pad(prompts, (2,) * 6, mode="replicate")[0]
    for axis in (1, 2, 3):
        highest = highest.unfold(axis, grid.tile + 4, grid.tile).amax(dim=-1)
        lowest = lowest.unfold(axis, grid.tile + 4, grid.tile).amin(dim=-1)
    highest, lowest = highest.flatten(1), lowest.flatten(1)
    for index, value in enumerate(CONSTANTS):
        expected = torch.tensor(value)[:, None]
        constant = ((lowest == expected) & (highest == expected)).all(dim=0)
        kinds = torch.where(constant, 27 * index + grid.borders, kinds)
    return kinds
