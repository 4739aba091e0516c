"""Layers that the decoders share. Features are (batch, channel, z, y, x)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv(nn.Conv3d):
    """A convolution with a 3³ kernel that keeps the grid: (b, width, n, n, n) to (b, new_width, n, n, n)."""

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__(width, new_width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # oneDNN is called directly: for one patch of few channels PyTorch would pick a loop that is four times slower.
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if torch.compiler.is_compiling() or not (plain and torch.backends.mkldnn.is_available()):
            return super().forward(x)
        padding = stride = dilation = (1, 1, 1)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, stride, dilation, 1)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel, (b, c, z, y, x)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # float32, for in bfloat16 the gradients of the weights, summed over all voxels, would lose most of their value.
        return super().forward(x.movedim(1, -1).float()).movedim(-1, 1)


class Upscale(nn.Sequential):
    """Transposed convolution that doubles the grid: (b, width, n, n, n) to (b, upscaled_width, 2n, 2n, 2n)."""

    def __init__(self, width: int, upscaled_width: int) -> None:
        super().__init__(nn.ConvTranspose3d(width, upscaled_width, 2, stride=2), ChannelNorm(upscaled_width), nn.GELU())


def float32_on_coarsest_grid(x: Tensor) -> torch.autocast:
    """Autocast as it is, but float32 for features (b, c, 2, 2, 2) on a CPU; matters in training alone.

    oneDNN's bfloat16 weight gradients on a grid of 2³ are wrong on some processors.
    """
    enabled = torch.is_autocast_enabled(x.device.type) and not (x.device.type == "cpu" and x.shape[-1] <= 2)
    return torch.autocast(x.device.type, torch.bfloat16, enabled=enabled)


def concatenated(*parts: Tensor) -> Tensor:
    """Tensors (b, c_i, n, n, n) joined along channels, channels last: mixed layouts would slow convolutions down."""
    return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last_3d)


def quality_head(width: int, hidden: int) -> nn.Sequential:
    """The quality head: features averaged over all voxels (b, width) to Dice estimates (b, 2).

    As in the published network, the second estimate belongs to a mask that was never trained.
    """
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
    )
