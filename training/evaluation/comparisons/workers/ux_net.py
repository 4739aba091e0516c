"""3D UX-Net (Lee et al., 2022) from a clone of MASILab/3DUX-Net, automatic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from .clones import module_of
from .serve import serve
from .sliding import SlidingNetwork


class UxNet(SlidingNetwork):
    """3D UX-Net of the published size, by default as trained on FLARE21."""

    OPTIONS: ClassVar[Mapping[str, str]] = {
        **SlidingNetwork.OPTIONS,
        "classes": "liver,kidney,spleen,pancreas",
        "spacing": "1.0,1.0,1.2",
        "range": "-125,275",
    }

    def build(self, labels: int) -> torch.nn.Module:
        """Large-kernel convolutions in the order of a Swin transformer."""
        network: torch.nn.Module = module_of(self.settings, "networks.UXNet_3D.network_backbone").UXNET(
            in_chans=1, out_chans=labels, depths=[2, 2, 2, 2], feat_size=[48, 96, 192, 384], drop_path_rate=0
        )
        return network


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(UxNet)
