"""The blocks of U-Nets: nnU-Net's (Isensee et al., 2021) and those of the residual U-Net of the cross-patch network.

They compute the same as MONAI's `UnetBasicBlock`, `UnetUpBlock` and `UNet` (num_res_units=2), and their weights have
the same names, but they do not import MONAI; a test compares the two. Tensors are (batch, channel, z, y, x).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SLOPE = 0.01
"""Negative slope of the leaky ReLUs."""


def named(**modules: nn.Module) -> nn.Sequential:
    """A sequence of named modules."""
    return nn.Sequential(OrderedDict(modules))


class ConvBlock(nn.Module):
    """nnU-Net's block: two times convolution, instance norm, leaky ReLU; with stride 2 the first halves the grid."""

    def __init__(self, width: int, new_width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = named(conv=nn.Conv3d(width, new_width, 3, stride, padding=1, bias=False))
        self.conv2 = named(conv=nn.Conv3d(new_width, new_width, 3, padding=1, bias=False))
        self.norm1 = nn.InstanceNorm3d(new_width, affine=True)
        self.norm2 = nn.InstanceNorm3d(new_width, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(x)), SLOPE)


class UpBlock(nn.Module):
    """nnU-Net's upward block: (b, width, n, n, n) and skip (b, new_width, 2n, 2n, 2n) to (b, new_width, 2n, 2n, 2n)."""

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__()
        self.transp_conv = named(conv=nn.ConvTranspose3d(width, new_width, 2, stride=2, bias=False))
        self.conv_block = ConvBlock(2 * new_width, new_width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv_block(torch.cat((self.transp_conv(x), skip), dim=1))


class ConvUnit(nn.Sequential):
    """Convolution, instance norm, PReLU."""

    def __init__(self, conv: nn.Conv3d | nn.ConvTranspose3d) -> None:
        super().__init__(OrderedDict(conv=conv, adn=named(N=nn.InstanceNorm3d(conv.out_channels), A=nn.PReLU())))


class ResidualUnit(nn.Module):
    """One or two convolution units with a residual connection, which is a convolution where shapes differ."""

    def __init__(self, width: int, new_width: int, stride: int = 1, units: int = 2, last: bool = False) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}
        for index in range(units):
            first = index == 0
            conv = nn.Conv3d(width if first else new_width, new_width, 3, stride if first else 1, padding=1)
            parts[f"unit{index}"] = named(conv=conv) if last else ConvUnit(conv)
        self.conv = named(**parts)
        self.residual: nn.Module = nn.Identity()
        if stride > 1:
            self.residual = nn.Conv3d(width, new_width, 3, stride, padding=1)
        elif width != new_width:
            self.residual = nn.Conv3d(width, new_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.residual(x)


class SkipConnection(nn.Module):
    """The input and a submodule's output, joined along channels."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.submodule(x)), dim=1)


def residual_unet(width: int, new_width: int, widths: Sequence[int], outermost: bool = True) -> nn.Sequential:
    """MONAI's residual U-Net, (b, width, n, n, n) to (b, new_width, n, n, n).

    The grid is halved at each of the `widths` but the last, and doubled back.
    """
    finest, *coarser = widths
    if len(coarser) > 1:
        inner: nn.Module = residual_unet(finest, finest, coarser, outermost=False)
        joined = 2 * finest
    else:
        inner = ResidualUnit(finest, coarser[0])
        joined = finest + coarser[0]
    double = ConvUnit(nn.ConvTranspose3d(joined, new_width, 3, stride=2, padding=1, output_padding=1))
    return nn.Sequential(
        ResidualUnit(width, finest, stride=2),
        SkipConnection(inner),
        nn.Sequential(double, ResidualUnit(new_width, new_width, units=1, last=outermost)),
    )
