"""nnFormer (Zhou et al., 2023) from a clone of 282857341/nnFormer, automatic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from .clones import module_of
from .serve import serve
from .sliding import SlidingNetwork


class NnFormer(SlidingNetwork):
    """nnFormer as for BTCV ("synapse"), whose patch and windows are fixed."""

    OPTIONS: ClassVar[Mapping[str, str]] = {
        **SlidingNetwork.OPTIONS,
        "spacing": "3.0,0.76,0.76",
        "patch": "64,128,128",
        "sd": "100",
    }
    RAS = False
    OF_TRAINING = ("spacing", "range", "mean", "sd")

    def build(self, labels: int) -> torch.nn.Module:
        """Transformers on volumes, with the outputs for deep supervision."""
        network: torch.nn.Module = module_of(self.settings, "nnformer.network_architecture.nnFormer_synapse").nnFormer(
            crop_size=list(self.patch), num_classes=labels, deep_supervision=True
        )
        return network

    def logits(self, patch: torch.Tensor) -> torch.Tensor:
        """The finest of its outputs."""
        return super().logits(patch)[0]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(NnFormer)
