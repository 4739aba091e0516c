"""Convolutions by minimal filtering give the direct convolution's numbers, as exactly as float32 lets them."""

import pytest
import torch

from CTSAM3DLib.model.tiles import Moments, Scratch, TileGrid, inside
from CTSAM3DLib.model.winograd import WinogradConv, transforms

CHANNELS, NEW_CHANNELS = 40, 24


@pytest.fixture(autouse=True)
def same_numbers_each_time():
    torch.manual_seed(0)


@pytest.mark.parametrize("side", [2, 4])
def test_transforms_convolve_a_line(side):
    of_input, of_weights, to_output = transforms(side)
    line, weights = torch.randn(side + 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = torch.stack([line[first : first + 3] @ weights for first in range(side)])
    torch.testing.assert_close(to_output @ ((of_weights @ weights) * (of_input @ line)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("side", "worse_than_direct"), [(2, 3.0), (4, 10.0)])
@torch.inference_mode()
def test_a_volume_is_convolved_nearly_as_exactly_as_directly(side, worse_than_direct):
    convolution = torch.nn.Conv3d(CHANNELS, NEW_CHANNELS, 3, padding=1)
    image = torch.randn(1, CHANNELS, 16, 16, 16)
    exact = convolution.double()(image.double())[0].permute(1, 2, 3, 0)
    direct = convolution.float()(image)[0].permute(1, 2, 3, 0)

    grid, scratch = TileGrid(16, side), Scratch()
    fast = WinogradConv(convolution.weight, convolution.bias, grid)
    padded = scratch.padded("image", 16, CHANNELS)
    inside(padded).copy_(image[0].permute(1, 2, 3, 0))
    volume = torch.empty(16, 16, 16, NEW_CHANNELS)
    for layers in grid.layers():
        target = grid.view(volume, layers)
        target.copy_(fast(padded, layers, torch.arange(len(layers) * grid.along**2), scratch).view(target.shape))

    error = (volume - exact).pow(2).mean().sqrt()
    assert error < worse_than_direct * (direct - exact).pow(2).mean().sqrt()
    assert (volume - exact).abs().max() < 5e-5 * exact.abs().max()


@torch.inference_mode()
def test_a_tile_does_not_depend_on_which_others_are_asked_for():
    grid, scratch = TileGrid(16, 4), Scratch()
    fast = WinogradConv(torch.randn(NEW_CHANNELS, CHANNELS, 3, 3, 3), None, grid)
    padded = scratch.padded("image", 16, CHANNELS)
    inside(padded).copy_(torch.randn(16, 16, 16, CHANNELS))
    every = fast(padded, range(4), torch.arange(64), scratch).clone()
    some = fast(padded, range(4), torch.tensor([3, 40, 63]), scratch)
    torch.testing.assert_close(some, every[:, :, :, [3, 40, 63]], rtol=1e-5, atol=1e-5)
    last = fast(padded, range(2, 4), torch.tensor([8, 31]), scratch)
    torch.testing.assert_close(last, every[:, :, :, [40, 63]], rtol=1e-5, atol=1e-5)


def test_moments_of_parts_are_those_of_the_whole():
    rows = torch.randn(1000, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 1000.0, 1.0])
    found = Moments.together([Moments.of(part) for part in rows.split((10, 700, 290))])
    exact = rows.double()
    torch.testing.assert_close(found.mean.double(), exact.mean(dim=0), rtol=1e-5, atol=1e-5)
    expected = (exact.var(dim=0, correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(found.scale().double(), expected, rtol=1e-4, atol=0)


def test_every_voxel_lies_in_one_tile():
    grid = TileGrid(8, 2)
    volume = torch.arange(8**3).view(8, 8, 8, 1)
    seen = torch.cat([grid.view(volume, layers).flatten() for layers in grid.layers()])
    assert sorted(seen.tolist()) == list(range(8**3))
    assert grid.borders.bincount().tolist()[13] == 2**3  # those that touch no side
