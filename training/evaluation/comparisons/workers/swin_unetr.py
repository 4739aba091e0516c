"""Swin UNETR (Tang et al., 2022) by MONAI, automatic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from monai.networks.nets import SwinUNETR

from .serve import serve
from .sliding import SlidingNetwork


class SwinUnetr(SlidingNetwork):
    """Swin UNETR, of the published size by default."""

    OPTIONS: ClassVar[Mapping[str, str]] = {**SlidingNetwork.OPTIONS, "features": "48"}

    def build(self, labels: int) -> torch.nn.Module:
        """A Swin encoder and convolutions of so many features up."""
        return SwinUNETR(1, labels, feature_size=int(self.option["features"]))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SwinUnetr)
