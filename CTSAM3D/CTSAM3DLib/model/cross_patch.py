"""The cross-patch prompt network (paper, "Cross-Patch Prompt for Large Anatomy", CPP, Fig. 2D).

From a segmented patch, its mask and a neighbouring patch a residual U-Net predicts a prompt for the neighbour: a heat
map that peaks at the centroid of the same structure there, and is flat where the structure is absent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.unet import named, residual_unet


class CrossPatchNetwork(nn.Module):
    """CPP: patch, its mask and neighbour, each (b, 1, 64, 64, 64), become a heat map (b, 1, 64, 64, 64)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.unet = named(model=residual_unet(3, 1, config.cross_patch_widths))

    def forward(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """The heat map in the neighbour; the mask, 0..1, is thresholded at 0.5 first, as in training."""
        stacked = torch.cat([image, (mask > 0.5).to(image.dtype), neighbour], dim=1)  # (b, 3, 64, 64, 64)
        heat_map: Tensor = self.unet(stacked)
        return heat_map
