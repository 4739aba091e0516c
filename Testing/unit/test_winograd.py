"""Convolutions by Winograd convolution give the direct convolution's numbers, as exactly as float32 lets them."""

import pytest
import torch

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.mean_variance import MeanVariance
from CTSAM3DLib.execution.cpu.tiles import BLOCK, TileGrid, inside
from CTSAM3DLib.execution.cpu.winograd import WinogradConv, transforms
from Testing.relative import off

CHANNELS, NEW_CHANNELS = 40, 24


@pytest.fixture(autouse=True)
def same_numbers_each_time():
    torch.manual_seed(0)


def planes_of(convolution: WinogradConv, grid: TileGrid, padded: torch.Tensor, layers: range) -> torch.Tensor:
    """The planes that tiles of these layers are cut out of."""
    slabs = grid.slabs(padded, layers)
    return convolution.planes(slabs, torch.empty(slabs.shape))


@pytest.mark.parametrize("side", [2, 4])
def test_transforms_convolve_a_line(side):
    of_input, of_weights, to_output = transforms(side)
    line, weights = torch.randn(side + 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = torch.stack([line[first : first + 3] @ weights for first in range(side)])
    assert off(to_output @ ((of_weights @ weights) * (of_input @ line)), expected) < 1e-12


@pytest.mark.parametrize(("side", "root_mean_square"), [(2, 1e-6), (4, 4e-6)])
@torch.inference_mode()
def test_a_volume_is_convolved_nearly_as_exactly_as_directly(side, root_mean_square):
    """How exact the direct convolution is depends on the processor: two to three ten-millionths of the scale."""
    convolution = torch.nn.Conv3d(CHANNELS, NEW_CHANNELS, 3, padding=1)
    image = torch.randn(1, CHANNELS, 16, 16, 16)
    exact = convolution.double()(image.double())[0].permute(1, 2, 3, 0)
    convolution.float()

    grid, buffers = TileGrid(16, side), BufferPool()
    fast = WinogradConv(convolution.weight, convolution.bias, grid)
    padded = buffers.padded("image", 16, CHANNELS)
    inside(padded).copy_(image[0].permute(1, 2, 3, 0))
    volume = torch.empty(16, 16, 16, NEW_CHANNELS)
    for layers in grid.layers():
        target = grid.view(volume, layers)
        tiles = fast(planes_of(fast, grid, padded, layers), torch.arange(len(layers) * grid.along**2), buffers)
        target.copy_(tiles.view(target.shape))

    error = (volume - exact).pow(2).mean().sqrt()
    assert error < root_mean_square * exact.pow(2).mean().sqrt()
    assert off(volume, exact) < 5e-5


@pytest.mark.parametrize(("side", "tile"), [(8, 2), (16, 4), (32, 4)])
@torch.inference_mode()
def test_a_tile_does_not_depend_on_which_others_are_asked_for(side, tile):
    """To the bit, on every processor: it has its own row in a block of as many tiles as ever."""
    grid, buffers = TileGrid(side, tile), BufferPool()
    fast = WinogradConv(torch.randn(NEW_CHANNELS, CHANNELS, 3, 3, 3), None, grid)
    padded = buffers.padded("image", side, CHANNELS)
    inside(padded).copy_(torch.randn(side, side, side, CHANNELS))
    planes = planes_of(fast, grid, padded, range(grid.along))

    def convolved(numbers: torch.Tensor) -> dict[int, torch.Tensor]:
        answers = {}
        for block in grid.blocks(numbers):
            answer = fast(planes, torch.where(block >= 0, block, block.max()), buffers)
            answers |= {int(number): answer[:, :, :, row].clone() for row, number in enumerate(block) if number >= 0}
        return answers

    every = convolved(torch.arange(grid.along**3))
    assert sorted(every) == list(range(grid.along**3))
    for asked in ([3], [3, 40, 63], [8, 31], list(range(1, grid.along**3, 7))):
        some = convolved(torch.tensor(asked))
        assert sorted(some) == asked
        assert all(torch.equal(some[number], every[number]) for number in asked)


def test_tiles_are_computed_in_few_blocks_of_one_size():
    grid = TileGrid(32, 4)
    assert grid.blocks(torch.tensor([], dtype=torch.long)) == []
    assert len(grid.blocks(torch.arange(512))) == 512 // BLOCK
    near_a_click = torch.arange(512).view(8, 8, 8)[2:6, 3:7, 1:5].flatten()
    assert len(grid.blocks(near_a_click)) == 64 // BLOCK
    assert all(len(block) == BLOCK for block in grid.blocks(torch.tensor([5, 100])))


def test_moments_of_parts_are_those_of_the_whole():
    rows = torch.randn(1000, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 1000.0, 1.0])
    found = MeanVariance.merged([MeanVariance.of(part) for part in rows.split((10, 700, 290))])
    exact = rows.double()
    scale = (exact.var(dim=0, correction=0) + 1e-5).rsqrt()
    for channel in range(3):
        # A mean is as exact as the numbers that it is taken of.
        assert off(found.mean[channel], exact[:, channel].mean(), scale=float(exact[:, channel].abs().max())) < 1e-6
        assert off(found.scale()[channel], scale[channel]) < 1e-4


def test_every_voxel_lies_in_one_tile():
    grid = TileGrid(8, 2)
    volume = torch.arange(8**3).view(8, 8, 8, 1)
    seen = torch.cat([grid.view(volume, layers).flatten() for layers in grid.layers()])
    assert sorted(seen.tolist()) == list(range(8**3))
    assert grid.borders.bincount().tolist()[13] == 2**3  # those that touch no side
