"""MA-SAM (Chen et al., 2024) from a clone of cchen-cc/MA-SAM, automatic: twelve classes of BTCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch.nn.functional import pad

from .adapted_sam import AdaptedSam
from .automatic import BTCV
from .clones import module_of
from .serve import serve

FOLDER = "MA-SAM"
MIN_HU, MAX_HU = -200, 250
AROUND = 2
"""Slices on both sides that are seen and answered with one."""
RANK = 32


class MaSam(AdaptedSam):
    """SAM with factorised updates and convolutions across five slices; both adrenal glands are one class."""

    OPTIONS: ClassVar[Mapping[str, str]] = {**AdaptedSam.OPTIONS, "variant": "vit_h"}
    ADAPTERS = "the file of MA-SAM's weights for BTCV"
    NAMES = (*BTCV[:11], "adrenal gland")

    def build(self, sam: str | None, adapters: Path | None) -> torch.nn.Module:
        """SAM for slices of 512², and its adapters."""
        registry = module_of(self.settings, "segment_anything", FOLDER).sam_model_registry
        base, _ = registry[self.option["variant"]](
            image_size=self.SIDE,
            num_classes=len(self.NAMES),
            checkpoint=sam,
            pixel_mean=[0.0, 0.0, 0.0],
            pixel_std=[1.0, 1.0, 1.0],
        )
        adapted = module_of(self.settings, "sam_fact_tt_image_encoder", FOLDER).Fact_tt_Sam
        network: Any = adapted(base, RANK, s=1.0)
        if adapters is not None:
            network.load_parameters(str(adapters))
        return cast("torch.nn.Module", network)

    def share(self, hu: torch.Tensor) -> torch.Tensor:
        """What it clips to; 0 and 1 are the least and the greatest of five slices, so that they come later."""
        return hu.clip(MIN_HU, MAX_HU)

    def flipped(self, volume: torch.Tensor) -> torch.Tensor:
        """Columns from left to right."""
        return volume.flip(-1)

    def probabilities(self, slices: torch.Tensor) -> torch.Tensor:
        """The mean of the answers of all windows of five slices that hold a slice."""
        total = torch.zeros(len(slices) + 2 * AROUND, len(self.NAMES) + 1, self.SIDE, self.SIDE)
        padded = pad(slices[None], (0, 0, 0, 0, AROUND, AROUND), mode="replicate")[0]
        for first in range(len(slices)):
            self.progress(first / len(slices))
            window = slice(first, first + 2 * AROUND + 1)
            seen = padded[window]
            seen = (seen - seen.min()) / (seen.max() - seen.min() + 1e-8)
            total[window] += self.masks(seen[None, :, None].expand(1, -1, 3, -1, -1))
        return total[AROUND:-AROUND]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(MaSam)
