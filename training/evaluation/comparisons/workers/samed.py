"""SAMed (Zhang and Liu, 2023) from a clone of hitachinsk/SAMed, automatic: eight organs of BTCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch.nn.functional import interpolate

from .adapted_sam import AdaptedSam
from .clones import module_of
from .serve import serve

MIN_HU, MAX_HU = -125, 275
SEEN = 224
"""Its slices are shrunk to this before they are enlarged for SAM."""
RANK = 4


class Samed(AdaptedSam):
    """SAM with low-rank updates in its encoder."""

    OPTIONS: ClassVar[Mapping[str, str]] = {**AdaptedSam.OPTIONS, "variant": "vit_b"}
    ADAPTERS = "the file of SAMed's weights, epoch_159.pth"
    NAMES = ("spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas")

    def build(self, sam: str | None, adapters: Path | None) -> torch.nn.Module:
        """SAM for slices of 512², and its updates."""
        registry = module_of(self.settings, "segment_anything").sam_model_registry
        base, _ = registry[self.option["variant"]](
            image_size=self.SIDE,
            num_classes=len(self.NAMES),
            checkpoint=sam,
            pixel_mean=[0, 0, 0],
            pixel_std=[1, 1, 1],
        )
        network: Any = module_of(self.settings, "sam_lora_image_encoder").LoRA_Sam(base, RANK)
        if adapters is not None:
            network.load_lora_parameters(str(adapters))
        return cast("torch.nn.Module", network)

    def share(self, hu: torch.Tensor) -> torch.Tensor:
        """Its window as 0..1."""
        return (hu.clip(MIN_HU, MAX_HU) - MIN_HU) / (MAX_HU - MIN_HU)

    def flipped(self, volume: torch.Tensor) -> torch.Tensor:
        """Rows from back to front."""
        return volume.flip(-2)

    def probabilities(self, slices: torch.Tensor) -> torch.Tensor:
        """Slice by slice."""
        answers = []
        for number, plane in enumerate(slices):
            self.progress(number / len(slices))
            small = interpolate(plane[None, None], (SEEN, SEEN), mode="bicubic", antialias=True)
            image = interpolate(small, (self.SIDE, self.SIDE), mode="bicubic")
            answers.append(self.masks(image.expand(1, 3, -1, -1)))
        return torch.cat(answers)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(Samed)
