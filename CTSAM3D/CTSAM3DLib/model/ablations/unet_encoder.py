"""The convolutional image encoder of the paper's Table 4: the contracting path of a 3D U-Net (Çiçek et al., 2016).

Blocks are those of nnU-Net (Isensee et al., 2021): two convolutions of 3³, each with instance norm and a
leaky ReLU, the first of them strided. Widths and grids are those of ResT, so that either encoder serves either decoder;
at the paper's widths it has 32.1 M parameters and 5.0 G multiply-adds per patch (ResT 36.9 M and 2.6 G).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.unet import ConvBlock


class UNetEncoder(nn.Module):
    """A patch (b, 1, 64, 64, 64), 0..1, becomes the levels of `ImageEncoder`: (b, level_widths[i], n, n, n).

    n is 16, 8, 4 and 2. With a `fine_width` the patch itself and a level at 32³ come before them.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = (1, config.stem_width, *config.encoder_widths)
        self.stages = nn.ModuleList(ConvBlock(width, new_width, stride=2) for width, new_width in pairwise(widths))
        self.to_levels = nn.ModuleList(
            nn.Conv3d(width, level_width, 1)
            for width, level_width in zip(config.encoder_widths, config.level_widths, strict=True)
        )
        self.to_fine = nn.Conv3d(config.stem_width, config.fine_width, 1) if config.fine_width else None

    def forward(self, image: Tensor) -> list[Tensor]:
        halved = [image]
        for stage in self.stages:
            halved.append(stage(halved[-1]))  # 32³, 16³, 8³, 4³, 2³
        image, at_32, *coarser = halved
        levels = [to_level(features) for to_level, features in zip(self.to_levels, coarser, strict=True)]
        return levels if self.to_fine is None else [image, self.to_fine(at_32), *levels]
