"""A cache of SPADE's modulation maps γ and β by tiles, recomputed only where the prompts changed.

γ and β depend on the prompts alone, through two convolutions with 3³ kernels, so a tile's maps stay valid as long as
the prompts within two voxels of it do not change. A tile whose surroundings are constant, with one of the values
`CONSTANTS`, has maps that depend on the value and on the sides of the volume that the tile lies at; these maps are
computed once. All other tiles are computed in blocks in which each tile has its own row (`TileGrid.blocks`). Nothing is
approximated, and the maps of a tile do not depend on earlier prompts.

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
"""[previous mask, positive, negative] away from clicks: where no patch was decoded, in background, in the mask."""
RECEPTIVE_MARGIN = 2
"""Voxels around a tile on which its modulation maps depend."""


class ModulationCache:
    """γ + 1 and β of one SPADE norm on the tiles of a grid: (z, y, x, tile, 2 * width)."""

    def __init__(self, name: str, norm: SpadeNorm, grid: TileGrid, shared: BufferPool) -> None:
        self._name, self._grid, self._shared = name, grid, shared
        self._to_hidden = SlabConv(norm.shared.weight, norm.shared.bias)
        self._planes = torch.empty(0)
        self._conv = WinogradConv(norm.scale_and_shift.weight, scale_and_shift_bias(norm), grid)
        # With guidance there are more than three maps, and they are constant in hardly any tile.
        if norm.shared.in_channels == PROMPT_MAPS:
            self._constant = torch.cat([self._to_constant(norm, value) for value in CONSTANTS], dim=3)
        self._cached = torch.empty(*(grid.tile,) * 3, grid.along**3, self._conv.new_channels)
        self._stale = torch.ones(grid.along**3, dtype=torch.bool)
        self._prompts = torch.full((1, norm.shared.in_channels, *(grid.side,) * 3), torch.nan)

    def _to_constant(self, norm: SpadeNorm, value: tuple[float, float, float]) -> Tensor:
        """The maps of constant prompts for each of the 27 kinds of tiles, (z, y, x, 27, channel).

        A volume of three tiles along each axis has one tile of each kind.
        """
        side = 3 * self._grid.tile
        prompts = torch.tensor(value).view(1, PROMPT_MAPS, 1, 1, 1).expand(1, PROMPT_MAPS, side, side, side)
        (maps,) = volumes_of(norm.scale_and_shift(F.relu(norm.shared(prompts.contiguous()))).detach())
        maps[..., : maps.shape[-1] // 2] += 1
        return TileGrid(side, self._grid.tile).view(maps, range(3)).flatten(3, 5)

    def modulation_tasks(self, prompts: Tensor) -> list[list[partial[None]]]:
        """Tasks after which `maps` holds γ and β for prompts (1, maps, z, y, x), in two rounds.

        Tiles that are not recomputed keep their old value until the next computation.
        """
        self._stale |= changed_tiles(self._prompts, prompts, self._grid)
        self._prompts = prompts
        kinds = constant_kinds(prompts, self._grid)
        varying = self._stale & (kinds < 0)
        constant = self._stale & (kinds >= 0)
        computing = [partial(self._compute, block) for block in self._grid.blocks(varying.nonzero()[:, 0])]
        filling = [partial(self._fill, layer, constant, kinds) for layer in self._layers_with(constant)]
        return [self._hidden_tasks(prompts, varying), [*computing, *filling]]

    def maps(self, layers: range) -> Tensor:
        """γ + 1 and β of these layers, (z, y, x, layer, tile, 2 * width), a view of the cache."""
        return self._cached[:, :, :, self._grid.tiles_in(layers)].unflatten(3, (len(layers), -1))

    def _layers_with(self, tiles: Tensor) -> list[int]:
        return list(tiles.view(self._grid.along, -1).any(dim=1).nonzero()[:, 0].tolist())

    def _hidden_tasks(self, prompts: Tensor, varying: Tensor) -> list[partial[None]]:
        """Tasks that compute the hidden maps of all layers with varying tiles, transformed along z."""
        side, channels = self._grid.side, self._to_hidden.new_channels
        plane = (side + 2) ** 2 * channels
        self._planes = self._shared.take(
            f"planes, {self._name}, {side}", self._grid.along, 1, self._grid.tile + 2, plane
        )
        maps = self._shared.padded_along_z("maps", side, RECEPTIVE_MARGIN, prompts.shape[1])
        maps[RECEPTIVE_MARGIN:-RECEPTIVE_MARGIN].copy_(volumes_of(prompts)[0])
        return [partial(self._compute_hidden, maps, layer) for layer in self._layers_with(varying)]

    def _compute_hidden(self, maps: Tensor, layer: int, buffers: BufferPool) -> None:
        """The hidden maps of one layer, with one plane more at each end."""
        side, tile = self._grid.side, self._grid.tile
        planes = slice(layer * tile, (layer + 1) * tile)
        convolved = self._to_hidden(maps[planes.start : planes.stop + 2 * RECEPTIVE_MARGIN])
        hidden = buffers.padded_across_z("hidden", tile + 2, side, self._to_hidden.new_channels)
        torch.clamp_min(convolved, 0, out=hidden[:, 1:-1, 1:-1])
        without_outside(hidden, planes, side)
        self._conv.planes(hidden.view(1, tile + 2, -1), self._planes[layer])

    def _compute(self, block: Tensor, buffers: BufferPool) -> None:
        rows = (block >= 0).nonzero()[:, 0]
        numbers = block[rows]
        # Empty rows hold any tile.
        computed = self._conv(self._planes, torch.where(block >= 0, block, numbers[0]), buffers)
        self._cached.index_copy_(3, numbers, computed if len(rows) == len(block) else computed.index_select(3, rows))
        self._stale[numbers] = False

    def _fill(self, layer: int, constant: Tensor, kinds: Tensor, _: BufferPool) -> None:
        here = self._grid.tiles_in(range(layer, layer + 1))
        filled = constant[here].nonzero()[:, 0]
        maps = self._constant.index_select(3, kinds[here][filled])
        self._cached.index_copy_(3, filled + here.start, maps)
        self._stale[here][filled] = False


def changed_tiles(known: Tensor, prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile whether two prompts (1, maps, z, y, x) differ in the tile or within its margin."""
    differ = (known != prompts).any(dim=1, keepdim=True).float()
    return _over_margins(differ, grid, torch.amax)[0] > 0


def constant_kinds(prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile the index of its constant maps, or -1 where the prompts in the tile and its margin vary."""
    kinds = torch.full_like(grid.borders, -1)
    if prompts.shape[1] != PROMPT_MAPS:
        return kinds
    highest, lowest = (_over_margins(prompts, grid, extreme) for extreme in (torch.amax, torch.amin))
    for index, value in enumerate(CONSTANTS):
        expected = torch.tensor(value)[:, None]
        constant = ((lowest == expected) & (highest == expected)).all(dim=0)
        kinds = torch.where(constant, 27 * index + grid.borders, kinds)
    return kinds


def _over_margins(maps: Tensor, grid: TileGrid, extreme: Callable[..., Tensor]) -> Tensor:
    """The extreme of maps (1, map, z, y, x) over each tile with its margin, (map, tile)."""
    # Padding by replication changes no extreme.
    found = F.pad(maps, (RECEPTIVE_MARGIN,) * 6, mode="replicate")[0]
    for axis in (1, 2, 3):
        found = extreme(found.unfold(axis, grid.tile + 2 * RECEPTIVE_MARGIN, grid.tile), dim=-1)
    return found.flatten(1)
