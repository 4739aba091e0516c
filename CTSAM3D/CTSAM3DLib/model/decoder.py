"""The prompt decoder: progressively and spatially aligned prompts (paper, "PSAP", Fig. 2C).

At each grid from 2³ to 32³ a SPADE block (`spade.py`) modulates the features by the prompt maps, resized to that grid.
The features are then upscaled and, up to 16³, joined by the image encoder's level of the finer grid.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.layers import Conv, Upscale, concatenated, float32_on_coarsest_grid, quality_head
from CTSAM3DLib.model.spade import PROMPT_MAPS, SpadeBlock

MASK_CHANNELS = 2
"""The published head has two channels; the mask is the first, the second was never trained."""


class PromptDecoder(nn.Module):
    """PSAP: the encoder's levels at 16³, 8³, 4³, 2³ and the prompt maps become mask logits and a quality estimate."""

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
        """Decode levels (b, c_i, n, n, n), from 16³ to 2³, with prompt maps (b, 3, 64, 64, 64).

        Returns mask logits (b, 1, 64, 64, 64) and quality, the estimated Dice of the mask, (b,).
        """
        *skips, x = levels  # x: (b, c, 2, 2, 2)
        x = x.float()  # features encoded in bfloat16 on a GPU may have to be decoded on the CPU
        for block, upscale, maps in zip(self.blocks, self.upscales, resized(prompts), strict=True):
            with float32_on_coarsest_grid(x):
                x = upscale(block(x, maps))  # (b, c, 2n, 2n, 2n): 4³, 8³, 16³, 32³, 64³
            if skips:  # at 4³, 8³ and 16³
                x = concatenated(x, skips.pop())  # (b, c + level, 2n, 2n, 2n)
        return self.mask_head(x)[:, :1], self.quality_head(x.mean(dim=(2, 3, 4)))[:, 0]


def resized(prompts: Tensor) -> list[Tensor]:
    """The prompt maps (b, 3, 64, 64, 64) at 2³, 4³, 8³, 16³ and 32³, interpolated trilinearly."""
    sides = (2, 4, 8, 16, 32)
    return [F.interpolate(prompts, size=(n, n, n), mode="trilinear", align_corners=False) for n in sides]
