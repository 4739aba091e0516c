"""A prompt block as a processor runs it fastest: the numbers of `decoder.PromptBlock` but for rounding.

Convolutions go by minimal filtering (`winograd.py`), and γ and β are evaluated only where the prompts vary. A tile
whose surroundings hold one of the `CONSTANTS`, for nothing known, background and structure, has γ and β that depend on
that constant and on the sides of the volume that the tile lies at; these are computed once. Nothing is approximated.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.decoder import PROMPT_MAPS, PromptBlock, PromptNorm
from CTSAM3DLib.model.tiles import Scratch, TileGrid, features_of, inside, statistics, volumes_of
from CTSAM3DLib.model.winograd import WinogradConv

CONSTANTS = ((0.0, 0.0, 0.0), (1 / 255, 0.0, 0.0), (1.0, 0.0, 0.0))
"""[previous, positive, negative] where nothing is known, in the background and in the structure, away from clicks."""
LEAST_SIDE = 8
"""On smaller grids the weights are larger than the features, and minimal filtering makes them larger still."""
LEAST_WIDTH = 64
"""With fewer channels the transforms cost more than the products."""


def tile_on(side: int) -> int:
    """The side of the tiles of a grid; on 8³, tiles of 4³ would be too few for their larger weights."""
    return 2 if side <= 8 else 4


def fast_block(block: PromptBlock, side: int, scratch: Scratch) -> nn.Module:
    """The fastest form of a block on a grid of `side`³ voxels."""
    if side >= LEAST_SIDE and block.conv0.in_channels >= LEAST_WIDTH:
        return TiledBlock(block, side, scratch)
    return DirectBlock(block)


def prepared_weights(width: int, prompt_width: int, side: int) -> int:
    """How many weights a block's fast form keeps beside its own: those of minimal filtering."""
    if side < LEAST_SIDE or width < LEAST_WIDTH:
        return 0
    return 2 * (width + 2 * prompt_width) * width * (tile_on(side) + 2) ** 3


class TiledBlock(nn.Module):
    """A `PromptBlock` on a grid of `side`³ voxels; patches of a batch one by one."""

    def __init__(self, block: PromptBlock, side: int, scratch: Scratch) -> None:
        super().__init__()
        self._grid = TileGrid(side, tile_on(side))
        self._scratch = scratch
        self._responses = [Responses(norm, self._grid, scratch) for norm in (block.norm0, block.norm1)]
        self._convs = [
            # Instance norm takes away whatever a bias adds to all voxels.
            WinogradConv(block.conv0.weight, None, self._grid.tile, scratch),
            WinogradConv(block.conv1.weight, block.conv1.bias, self._grid.tile, scratch),
        ]

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        return features_of([self._of_one(v, p[None]) for v, p in zip(volumes_of(x), prompts, strict=True)])

    def _of_one(self, x: Tensor, prompts: Tensor) -> Tensor:
        kinds = kinds_of_tiles(prompts, self._grid)
        added = x
        for responses, conv in zip(self._responses, self._convs, strict=True):
            added = self._convolved(self._normed(added, responses.prepared_for(prompts), kinds), conv)
        return x + added

    def _normed(self, x: Tensor, responses: Responses, kinds: Tensor) -> Tensor:
        """Instance norm of x, scaled and shifted by the responses, and leaky ReLU; padded."""
        padded = self._scratch.padded("normed", self._grid.side, x.shape[-1])
        mean, scale = statistics(x)
        for layers in self._grid.layers():
            gamma_and_beta = responses.in_layers(layers, kinds)
            source = self._grid.view(x, layers)
            tiles = torch.sub(source, mean, out=self._scratch.take("features", *source.shape)).mul_(scale)
            gamma, beta = gamma_and_beta.view(*source.shape[:-1], -1).chunk(2, dim=-1)
            torch.addcmul(beta, tiles, gamma, out=tiles)
            target = self._grid.view(inside(padded), layers)
            torch.ops.aten.leaky_relu.out(tiles, 0.2, out=target)
        return padded

    def _convolved(self, padded: Tensor, conv: WinogradConv) -> Tensor:
        out = self._scratch.take(f"convolved {self._grid.side}", *(self._grid.side,) * 3, conv.new_channels)
        for layers in self._grid.layers():
            target = self._grid.view(out, layers)
            target.copy_(conv(self._grid.take(padded, self._grid.tiles_in(layers), self._scratch)).view(target.shape))
        return out


class DirectBlock(nn.Module):
    """A `PromptBlock` with its convolutions as they are, for few channels or voxels."""

    def __init__(self, block: PromptBlock) -> None:
        super().__init__()
        self._block = block

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        y = self._block.conv0(self._normed(x, self._block.norm0, prompts))
        return x + self._block.conv1(self._normed(y, self._block.norm1, prompts))

    def _normed(self, x: Tensor, norm: PromptNorm, prompts: Tensor) -> Tensor:
        """The norm and leaky ReLU of x without leaving its memory layout, for which PyTorch's instance norm copies."""
        gamma, beta = norm.scale_and_shift(F.relu(norm.shared(prompts))).chunk(2, dim=1)
        normed = []
        for volume in volumes_of(x):
            mean, scale = statistics(volume)
            normed.append((volume - mean).mul_(scale))
        y = features_of(normed)
        return F.leaky_relu_(torch.addcmul(beta, y, gamma).add_(y), 0.2)


class Responses:
    """γ + 1 and β of one prompt norm, tile by tile."""

    def __init__(self, norm: PromptNorm, grid: TileGrid, scratch: Scratch) -> None:
        self._shared = norm.shared
        self._grid, self._scratch = grid, scratch
        convolution = norm.scale_and_shift
        assert convolution.bias is not None
        bias = convolution.bias.detach().clone()
        bias[: len(bias) // 2] += 1
        self._conv = WinogradConv(convolution.weight, bias, grid.tile, scratch)
        self._hidden = torch.empty(0)
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

    def prepared_for(self, prompts: Tensor) -> Responses:
        """Itself, ready to respond to prompts (1, maps, z, y, x)."""
        self._hidden = self._scratch.padded("hidden", self._grid.side, self._conv.channels)
        prompts = prompts.contiguous(memory_format=torch.channels_last_3d)  # then so is the answer
        (hidden,) = volumes_of(self._shared(prompts))
        torch.clamp_min(hidden, 0, out=inside(self._hidden))
        return self

    def in_layers(self, layers: range, kinds: Tensor) -> Tensor:
        """(z, y, x, tile, 2 * width) for all tiles in these layers; `kinds` are those of `kinds_of_tiles`."""
        tiles = self._grid.tiles_in(layers)
        kinds = kinds[tiles]
        varying = tiles[kinds < 0]
        if len(varying) == len(tiles):
            return self._conv(self._grid.take(self._hidden, tiles, self._scratch))
        shape = (*(self._grid.tile,) * 3, len(tiles), self._conv.new_channels)
        responses = self._scratch.take("responses", *shape)
        torch.index_select(self._constant, 3, kinds.clamp(min=0), out=responses)
        if len(varying):
            varied = self._conv(self._grid.take(self._hidden, varying, self._scratch))
            responses.index_copy_(3, varying - tiles[0], varied)
        return responses


def kinds_of_tiles(prompts: Tensor, grid: TileGrid) -> Tensor:
    """For each tile the number of its response among the constant ones, or -1 where the prompts in its reach vary."""
    kinds = torch.full_like(grid.borders, -1)
    if prompts.shape[1] != PROMPT_MAPS:
        return kinds
    # Two convolutions of 3³ see two voxels beyond the tile.
    highest, lowest = (
        sign * F.max_pool3d(sign * prompts, grid.tile + 4, stride=grid.tile, padding=2)[0].flatten(1)
        for sign in (1, -1)
    )
    for index, value in enumerate(CONSTANTS):
        expected = torch.tensor(value)[:, None]
        constant = ((lowest == expected) & (highest == expected)).all(dim=0)
        kinds = torch.where(constant, 27 * index + grid.borders, kinds)
    return kinds
