"""The prompt decoder: progressively and spatially aligned prompts (paper, "PSAP", Eq. 2).

At each resolution the prompt maps M = [previous mask, positive clicks, negative clicks] are resized to the feature
grid and turned into a scale γ(M) and a shift β(M) of instance-normed features, voxel by voxel, so that a click acts
exactly where it was placed. The paper multiplies by γ; the published network by 1 + γ, and so do we.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig

PROMPT_MAPS = 3
MASK_CHANNELS = 2
"""The published head has two channels; the mask is the first, the second was never trained."""


class Conv(nn.Conv3d):
    """A convolution of 3³ voxels, by oneDNN also for a single patch of few channels.

    There PyTorch would choose a plain loop on the CPU, which makes the small network's decoder four times slower.
    """

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__(width, new_width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (plain and torch.backends.mkldnn.is_available()):
            return super().forward(x)
        padding = stride = dilation = (1, 1, 1)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, stride, dilation, 1)


class PromptNorm(nn.Module):
    """Instance norm whose scale and shift are read off the prompt maps at every voxel (Eq. 2)."""

    def __init__(self, width: int, prompt_width: int) -> None:
        super().__init__()
        self.shared = Conv(PROMPT_MAPS, prompt_width)
        self.scale_and_shift = Conv(prompt_width, 2 * width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        gamma, beta = self.scale_and_shift(F.relu(self.shared(prompts))).chunk(2, dim=1)
        return F.instance_norm(x) * (1 + gamma) + beta


class PromptBlock(nn.Module):
    """A residual block of two convolutions, each after a prompt norm and a leaky ReLU."""

    def __init__(self, width: int, prompt_width: int) -> None:
        super().__init__()
        self.norm0 = PromptNorm(width, prompt_width)
        self.conv0 = Conv(width, width)
        self.norm1 = PromptNorm(width, prompt_width)
        self.conv1 = Conv(width, width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        y = self.conv0(F.leaky_relu(self.norm0(x, prompts), 0.2))
        y = self.conv1(F.leaky_relu(self.norm1(y, prompts), 0.2))
        return x + y


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel of (batch, channel, z, y, x)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Upscale(nn.Sequential):
    """Doubles the grid."""

    def __init__(self, width: int, upscaled_width: int) -> None:
        super().__init__(nn.ConvTranspose3d(width, upscaled_width, 2, stride=2), ChannelNorm(upscaled_width), nn.GELU())


def interpolated(prompts: Tensor) -> list[Tensor]:
    """The prompt maps at 2³, 4³, 8³, 16³ and 32³, interpolated trilinearly as in the published network."""
    sides = (2, 4, 8, 16, 32)
    return [F.interpolate(prompts, size=(n, n, n), mode="trilinear", align_corners=False) for n in sides]


def pooled(prompts: Tensor) -> list[Tensor]:
    """The same grids; each voxel has the mean of the previous mask and the greatest of the click maps over its part."""
    mask, clicks = prompts[:, :1], prompts[:, 1:]
    maps: list[Tensor] = []
    for _ in range(5):
        mask, clicks = F.avg_pool3d(mask, 2), F.max_pool3d(clicks, 2)
        maps.insert(0, torch.cat([mask, clicks], dim=1))
    return maps


class PromptDecoder(nn.Module):
    """Levels at 16³, 8³, 4³, 2³ and prompts (batch, 3, 64, 64, 64) become mask logits and an estimate of quality."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.prompt_resize = config.prompt_resize
        *skips, deepest = config.level_widths
        skip_widths = [*reversed(skips), 0, 0]
        self.blocks = nn.ModuleList()
        self.upscales = nn.ModuleList()
        width = deepest
        for prompt_width, upscaled, skip in zip(config.prompt_widths, config.upscaled_widths, skip_widths, strict=True):
            self.blocks.append(PromptBlock(width, prompt_width))
            self.upscales.append(Upscale(width, upscaled))
            width = upscaled + skip
        self.mask_head = Conv(width, MASK_CHANNELS)
        hidden = config.quality_width
        self.quality_head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, MASK_CHANNELS),
        )

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (batch, 1, 64, 64, 64) and quality (batch,)."""
        *skips, x = levels
        resize = pooled if self.prompt_resize == "pooled" else interpolated
        for block, upscale, resized in zip(self.blocks, self.upscales, resize(prompts), strict=True):
            x = upscale(block(x, resized))
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        quality = self.quality_head(x.mean(dim=(2, 3, 4)))[:, 0]
        return self.mask_head(x)[:, :1], quality
