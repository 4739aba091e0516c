"""The prompt decoder: progressively and spatially aligned prompts (paper, "PSAP", Fig. 2C).

From the coarsest grid to the finest, features meet the prompt maps, resized to their grid, in a SPADE block
(`spade.py`), are upscaled, and are joined by the image features of the next grid.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.layers import Conv, Upscale, quality_head, stacked
from CTSAM3DLib.model.spade import PROMPT_MAPS, SpadeBlock

MASK_CHANNELS = 2
"""The published head has two channels; the mask is the first, the second was never trained."""


class PromptDecoder(nn.Module):
    """Levels at 16³, 8³, 4³, 2³ and prompts (b, 3, 64, 64, 64) become mask logits and an estimate of quality."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        *skips, width = config.level_widths
        skip_widths = [*reversed(skips), 0, 0]
        self.blocks, self.upscales = nn.ModuleList(), nn.ModuleList()
        for hidden, upscaled, skip in zip(config.prompt_widths, config.upscaled_widths, skip_widths, strict=True):
            self.blocks.append(SpadeBlock(width, PROMPT_MAPS, hidden))
            self.upscales.append(Upscale(width, upscaled))
            width = upscaled + skip
        self.mask_head = Conv(width, MASK_CHANNELS)
        self.quality_head = quality_head(width, config.quality_width)

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (b, 1, 64, 64, 64) and quality (b,)."""
        *skips, x = levels  # x: (b, c, 2, 2, 2)
        x = x.float()  # features made in bfloat16 on a GPU may have to be decoded on the CPU
        for block, upscale, maps in zip(self.blocks, self.upscales, resized(prompts), strict=True):
            x = upscale(block(x, maps))  # twice as fine: 4³, 8³, 16³, 32³, 64³
            if skips:
                x = stacked(x, skips.pop())
        return self.mask_head(x)[:, :1], self.quality_head(x.mean(dim=(2, 3, 4)))[:, 0]


def resized(prompts: Tensor) -> list[Tensor]:
    """The prompt maps (b, 3, 64, 64, 64) at 2³, 4³, 8³, 16³ and 32³, interpolated trilinearly."""
    sides = (2, 4, 8, 16, 32)
    return [F.interpolate(prompts, size=(n, n, n), mode="trilinear", align_corners=False) for n in sides]
