"""The blocks of U-Nets against MONAI's, whose weights fit them."""

import pytest
import torch
from monai.networks.blocks import UnetBasicBlock, UnetUpBlock
from monai.networks.nets import UNet

from CTSAM3DLib.model.unet import ConvBlock, UpBlock, residual_unet

NORM = ("instance", {"affine": True})


def same(ours: torch.nn.Module, theirs: torch.nn.Module, *inputs: torch.Tensor) -> None:
    for parameter in theirs.parameters():  # also those that begin as zeros and ones
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())  # strict: names and shapes are the same
    with torch.no_grad():
        expected = theirs(*inputs)
    torch.testing.assert_close(ours(*inputs), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block(stride):
    theirs = UnetBasicBlock(3, 5, 7, kernel_size=3, stride=stride, norm_name=NORM)
    same(ConvBlock(5, 7, stride), theirs, torch.randn(2, 5, 8, 8, 8))


def test_a_doubling():
    theirs = UnetUpBlock(3, 6, 4, kernel_size=3, stride=2, upsample_kernel_size=2, norm_name=NORM)
    same(UpBlock(6, 4), theirs, torch.randn(2, 6, 4, 4, 4), torch.randn(2, 4, 8, 8, 8))


@pytest.mark.parametrize("widths", [(4, 6), (8, 16, 24, 32, 48)])
def test_the_residual_unet(widths):
    theirs = UNet(3, 3, 1, channels=widths, strides=(2,) * (len(widths) - 1), num_res_units=2)
    ours = torch.nn.Sequential()
    ours.add_module("model", residual_unet(3, 1, widths))
    same(ours, theirs, torch.randn(1, 3, 32, 32, 32))
