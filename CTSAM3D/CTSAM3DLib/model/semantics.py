"""What the network knows of anatomy before any click: a vector for each voxel, alike within one kind of structure.

A click says which voxels are meant; where else the same structure lies is then a matter of likeness between vectors
(`guidance.kinship`). The vectors are learnt from label maps without clicks (`training/semantics.py`), as prototypes of
few-shot segmentation are (Snell et al., 2017; PANet, Wang et al., 2019). The published network does without.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F  # noqa: N812
from monai.networks.blocks import UnetBasicBlock, UnetOutBlock, UnetUpBlock
from torch import Tensor, nn

from CTSAM3DLib.model.folding import unshuffled
from CTSAM3DLib.model.unet_encoder import NORM


class SemanticNetwork(nn.Module):
    """A patch (batch, 1, 64, 64, 64) scaled to [0, 1] becomes unit vectors (batch, width, 32, 32, 32).

    A U-Net of nnU-Net's blocks (MONAI's). Its finest grid is 32³, where the eight voxels of the patch under each of
    its own are channels; `filters` are its channels there, at 16³ and so on.
    """

    def __init__(self, width: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        finer_and_coarser = list(pairwise(filters))
        self.first = UnetBasicBlock(3, 8, filters[0], kernel_size=3, stride=1, norm_name=NORM)
        self.down = nn.ModuleList(
            UnetBasicBlock(3, finer, coarser, kernel_size=3, stride=2, norm_name=NORM)
            for finer, coarser in finer_and_coarser
        )
        self.up = nn.ModuleList(
            UnetUpBlock(3, coarser, finer, kernel_size=3, stride=2, upsample_kernel_size=2, norm_name=NORM)
            for finer, coarser in reversed(finer_and_coarser)
        )
        self.to_vectors = UnetOutBlock(3, filters[0], width)

    def forward(self, image: Tensor) -> Tensor:
        skips = [self.first(unshuffled(image))]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return F.normalize(self.to_vectors(x).float(), dim=1)
