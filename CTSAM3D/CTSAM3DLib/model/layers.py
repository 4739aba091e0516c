"""Layers of the decoders. Features are (batch, channel, z, y, x)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv(nn.Conv3d):
    """A convolution of 3³ voxels."""

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__(width, new_width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # For a single patch of few channels PyTorch would choose a plain loop, four times slower than oneDNN.
        if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
            padding = stride = dilation = (1, 1, 1)
            return torch.mkldnn_convolution(x, self.weight, self.bias, padding, stride, dilation, 1)
        return super().forward(x)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # In bfloat16 the gradients of its weights, summed over all voxels, would lose most of their value.
        return super().forward(x.movedim(1, -1).float()).movedim(-1, 1)


class Upscale(nn.Sequential):
    """Doubles the grid: (b, width, n, n, n) to (b, upscaled_width, 2n, 2n, 2n)."""

    def __init__(self, width: int, upscaled_width: int) -> None:
        super().__init__(nn.ConvTranspose3d(width, upscaled_width, 2, stride=2), ChannelNorm(upscaled_width), nn.GELU())


def stacked(*parts: Tensor) -> Tensor:
    """The channels of all parts in the memory layout that convolutions want; left alone, a mixture would be slow."""
    return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last_3d)


def quality_head(width: int, hidden: int) -> nn.Sequential:
    """Features averaged over all voxels (b, width) to estimates of the Dice of two masks (b, 2); the first counts."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
    )
