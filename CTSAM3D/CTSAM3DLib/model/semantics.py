"""What the network knows of anatomy before any click: a vector for each voxel, alike within one kind of structure.

A click says which voxels are meant; where else the same structure lies is then a matter of likeness between vectors
(`guidance.kinship`). The vectors are learnt from label maps without clicks (`training/semantics.py`), as prototypes of
few-shot segmentation are (Snell et al., 2017; PANet, Wang et al., 2019). The published network does without.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from CTSAM3DLib.model.folding import unshuffled

NORM = ("instance", {"affine": True})


class SemanticNetwork(nn.Module):
    """A patch (batch, 1, 64, 64, 64) scaled to [0, 1] becomes unit vectors (batch, width, 32, 32, 32).

    A U-Net (MONAI's, with nnU-Net's blocks) whose finest grid is 32³, with eight voxels of the patch under each of its
    own as channels.
    """

    def __init__(self, width: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        halvings = [2] * (len(filters) - 1)
        self.unet = DynUNet(
            spatial_dims=3,
            in_channels=8,
            out_channels=width,
            kernel_size=[3] * len(filters),
            strides=[1, *halvings],
            upsample_kernel_size=halvings,
            filters=filters,
            norm_name=NORM,
        )

    def forward(self, image: Tensor) -> Tensor:
        return F.normalize(self.unet(unshuffled(image)).float(), dim=1)
