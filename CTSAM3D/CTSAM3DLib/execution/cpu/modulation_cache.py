"""γ and β of a prompt norm tile by tile, kept from one decode to the next and made anew only where the prompts changed.

They are read off the prompts alone, by two convolutions of 3³ voxels. So a tile keeps its own as long as the prompts
within two voxels of it stay as they are. A tile whose surroundings hold one of the `CONSTANTS`, for nothing known,
background and structure, has γ and β that depend on that constant and on the sides of the volume that the tile lies
at; these are computed once. Nothing is approximated, and what a tile gets does not depend on what was asked before:
the other tiles are computed in blocks, in which each has its own row (`TileGrid.blocks`).

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.slab_unit import SlabConv, scale_and_shift_bias, without_outside
from CTSAM3DLib.execution.cpu.tiles import TileGrid, volumes_of
from CTSAM3DLib.execution.cpu.winograd import WinogradConv
from CTSAM3DLib.model.spade import PROMPT_MAPS, SpadeNorm

CONSTANTS = ((0.0, 0.0, 0.0), (1 / 255, 0.0, 0.0), (1.0, 0.0, 0.0))
"""[previous, positive, negative] where nothing is known, in the background and in the structure, away from clicks."""
REACH = 2
"""Voxels around a tile that its scale and shift are read off."""


class ModulationCache:
    """γ + 1 and β of one prompt norm on the tiles of a grid: (z, y, x, tile, 2 * width)."""

    def __init__(self, name: str, norm: SpadeNorm, grid: TileGrid, shared: BufferPool) -> None:
        self._name, self._grid, self._shared = name, grid, shared
        self._to_hidden = SlabConv(norm.shared.weight, norm.shared.bias)
        self._planes = torch.empty(0)
        self._conv = WinogradConv(norm.scale_and_shift.weight, scale_and_shift_bias(norm), grid)
        # With guidance there are more maps than three, and hardly a tile in which they are constant.
        if norm.shared.in_channels == PROMPT_MAPS:
            self._constant = torch.cat([self._to_constant(norm, value) for value in CONSTANTS], dim=3)
        self._kept = torch.empty(*(grid.tile,) * 3, grid.along**3, self._conv.new_channels)
        self._stale = torch.ones(grid.along**3, dtype=torch.bool)
        self._prompts = torch.full((1, norm.shared.in_channels, *(grid.side,) * 3), torch.nan)

    def _to_constant(self, norm: SpadeNorm, value: tuple[float, float, float]) -> Tensor:
        """(z, y, x, 27, channel): the tiles of a volume of three along each axis, which lie at all kinds of borders."""
        side = 3 * self._grid.tile
        prompts = torch.tensor(value).view(1, PROMPT_MAPS, 1, 1, 1).expand(1, PROMPT_MAPS, side, side, side)
        (response,) = volumes_of(norm.scale_and_shift(F.relu(norm.shared(prompts.contiguous()))).detach())
        response[..., : response.shape[-1] // 2] += 1
        return TileGrid(side, self._grid.tile).view(response, range(3)).flatten(3, 5)

    def modulation_tasks(self, prompts: Tensor) -> list[list[partial[None]]]:
        """What there is to do until `of` knows the responses to prompts (1, maps, z, y, x), in two rounds.

        Tiles whose task is left out stay as they were, until they are met again.
        """
        self._stale |= changed_tiles(self._prompts, prompts, self._grid)
        self._prompts = prompts
        kinds = kinds_of_tiles(prompts, self._grid)
        varying = self._stale & (kinds < 0)
        constant = self._stale & (kinds >= 0)
        computing = [partial(self._compute, block) for block in self._grid.blocks(varying.nonzero()[:, 0])]
        filling = [partial(self._fill, layer, constant, kinds) for layer in self._layers_with(constant)]
        return [self._hiding(prompts, varying), [*computing, *filling]]

    def of(self, layers: range) -> Tensor:
        """(z, y, x, layer, tile, 2 * width) of these layers, in the memory that they are kept in."""
        return self._kept[:, :, :, self._grid.tiles_in(layers)].unflatten(3, (len(layers), -1))

    def _layers_with(self, tiles: Tensor) -> list[int]:
        return list(tiles.view(self._grid.along, -1).any(dim=1).nonzero()[:, 0].tolist())

    def _hiding(self, prompts: Tensor, varying: Tensor) -> list[partial[None]]:
        """The planes of hidden maps that the tiles that vary are made of."""
        side, channels = self._grid.side, self._to_hidden.new_channels
        plane = (side + 2) ** 2 * channels
        self._planes = self._shared.take(
            f"planes, {self._name}, {side}", self._grid.along, 1, self._grid.tile + 2, plane
        )
        maps = self._shared.padded_along_z("maps", side, REACH, prompts.shape[1])
        maps[REACH:-REACH].copy_(volumes_of(prompts)[0])
        return [partial(self._hide, maps, layer) for layer in self._layers_with(varying)]

    def _hide(self, maps: Tensor, layer: int, buffers: BufferPool) -> None:
        """Those of a layer, with the hidden maps of a plane before it and one after it."""
        side, tile = self._grid.side, self._grid.tile
        planes = slice(layer * tile, (layer + 1) * tile)
        convolved = self._to_hidden(maps[planes.start : planes.stop + 2 * REACH])
        hidden = buffers.padded_across_z("hidden", tile + 2, side, self._to_hidden.new_channels)
        torch.clamp_min(convolved, 0, out=hidden[:, 1:-1, 1:-1])
        without_outside(hidden, planes, side)
        self._conv.planes(hidden.view(1, tile + 2, -1), self._planes[layer])

    def _compute(self, block: Tensor, buffers: BufferPool) -> None:
        rows = (block >= 0).nonzero()[:, 0]
        numbers = block[rows]
        # An empty row is filled with any tile.
        answer = self._conv(self._planes, torch.where(block >= 0, block, numbers[0]), buffers)
        self._kept.index_copy_(3, numbers, answer if len(rows) == len(block) else answer.index_select(3, rows))
        self._stale[numbers] = False

    def _fill(self, layer: int, constant: Tensor, kinds: Tensor, _: BufferPool) -> None:
        here = self._grid.tiles_in(range(layer, layer + 1))
        filled = constant[here].nonzero()[:, 0]
        response = self._constant.index_select(3, kinds[here][filled])
        self._kept.index_copy_(3, filled + here.start, response)
        self._stale[here][filled] = False


def changed_tiles(known: Tensor, prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile whether these prompts (1, maps, z, y, x) differ within its reach."""
    differ = (known != prompts).any(dim=1, keepdim=True).float()
    return _in_reach(differ, grid, torch.amax)[0] > 0


def kinds_of_tiles(prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile the number of its response among the constant ones, or -1 where the prompts in its reach vary."""
    kinds = torch.full_like(grid.borders, -1)
    if prompts.shape[1] != PROMPT_MAPS:
        return kinds
    highest, lowest = (_in_reach(prompts, grid, extreme) for extreme in (torch.amax, torch.amin))
    for index, value in enumerate(CONSTANTS):
        expected = torch.tensor(value)[:, None]
        constant = ((lowest == expected) & (highest == expected)).all(dim=0)
        kinds = torch.where(constant, 27 * index + grid.borders, kinds)
    return kinds


def _in_reach(maps: Tensor, grid: TileGrid, extreme: Callable[..., Tensor]) -> Tensor:
    """(map, tile): the extreme of the maps (1, map, z, y, x) in reach of each tile."""
    # What lies outside the volume repeats its border, and changes no extreme.
    found = F.pad(maps, (REACH,) * 6, mode="replicate")[0]
    for axis in (1, 2, 3):
        found = extreme(found.unfold(axis, grid.tile + 2 * REACH, grid.tile), dim=-1)
    return found.flatten(1)
