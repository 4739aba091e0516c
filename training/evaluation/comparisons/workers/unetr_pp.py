"""UNETR++ (Shaker et al., 2022) from a clone of Amshaker/unetr_plus_plus, automatic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from .clones import module_of
from .serve import serve
from .sliding import SlidingNetwork


class UnetrPlusPlus(SlidingNetwork):
    """UNETR++ as for BTCV ("synapse"), whose patch is fixed."""

    OPTIONS: ClassVar[Mapping[str, str]] = {
        **SlidingNetwork.OPTIONS,
        "spacing": "3.0,0.76,0.76",
        "patch": "64,128,128",
        "sd": "100",
    }
    RAS = False
    OF_TRAINING = ("spacing", "range", "mean", "sd")

    def build(self, labels: int) -> torch.nn.Module:
        """Efficient paired attention in four stages, with the outputs for deep supervision."""
        network: torch.nn.Module = module_of(
            self.settings, "unetr_pp.network_architecture.synapse.unetr_pp_synapse"
        ).UNETR_PP(
            in_channels=1,
            out_channels=labels,
            img_size=list(self.patch),
            feature_size=16,
            num_heads=4,
            depths=[3, 3, 3, 3],
            dims=[32, 64, 128, 256],
            do_ds=True,
        )
        return network

    def logits(self, patch: torch.Tensor) -> torch.Tensor:
        """The finest of its outputs."""
        return super().logits(patch)[0]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(UnetrPlusPlus)
