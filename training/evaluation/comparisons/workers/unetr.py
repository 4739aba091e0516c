"""UNETR (Hatamizadeh et al., 2022) by MONAI, automatic."""

from __future__ import annotations

import torch
from monai.networks.nets import UNETR

from .serve import serve
from .sliding import SlidingNetwork


class Unetr(SlidingNetwork):
    """UNETR of the published size."""

    def build(self, labels: int) -> torch.nn.Module:
        """A ViT-B encoder and convolutions of 16 features up."""
        x, y, z = self.patch
        return UNETR(1, labels, (x, y, z), feature_size=16, norm_name="instance")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(Unetr)
