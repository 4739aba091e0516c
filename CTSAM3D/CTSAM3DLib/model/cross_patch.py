"""The cross-patch prompt network (paper, "Cross-Patch Prompt for Large Anatomy").

Shown a clicked patch, its mask and a neighbouring patch, it says where in the neighbour the same structure goes on:
a heat map that peaks at the centroid of the structure there and is flat where the structure is absent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.unet import named, residual_unet


class CrossPatchNetwork(nn.Module):
    """[patch, its mask, neighbour], each (batch, 1, 64, 64, 64), become a heat map in the neighbour."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.unet = named(model=residual_unet(3, 1, config.cross_patch_widths))

    def forward(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """The mask is thresholded at 0.5 first, as in training."""
        heat_map: Tensor = self.unet(torch.cat([image, (mask > 0.5).to(image.dtype), neighbour], dim=1))
        return heat_map
