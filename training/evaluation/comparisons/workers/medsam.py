"""MedSAM (Ma et al., 2024), slice by slice: SAM's network by `segment-anything`, with MedSAM's weights and images.

MedSAM was trained with boxes; points are what it is asked with here, as in the paper's comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from segment_anything import sam_model_registry
from torch.nn.functional import interpolate

from .serve import Settings, serve
from .slices import SliceWise
from .weights import chosen, device_of, identity, load_into

SIDE = 1024


class MedSam(SliceWise):
    """A slice stretched to a square, its darkest pixel 0 and its brightest 1; no mask goes back in."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the file of MedSAM's weights, medsam_vit_b.pth")
        self.weights = identity(path)
        self._device = device_of(settings)
        self._sam = sam_model_registry["vit_b"]()
        load_into(self._sam, path, trusted=self.trusted)
        self._sam.to(self._device).eval()

    def embed(self, image: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """The image's features, and its size."""
        square = interpolate(
            torch.from_numpy(image)[None, None].float(), (SIDE, SIDE), mode="bicubic", antialias=True
        ).clip(0, 255)
        lowest, highest = square.min(), square.max()
        square = (square - lowest) / (highest - lowest).clip(min=1e-8)
        features = self._sam.image_encoder(square.expand(1, 3, SIDE, SIDE).to(self._device))
        return features, (image.shape[0], image.shape[1])

    def segment(
        self, embedding: tuple[torch.Tensor, tuple[int, int]], points: np.ndarray, positive: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, None]:
        """All points at once."""
        features, size = embedding
        height, width = size
        scaled = torch.from_numpy(points * np.array([SIDE / width, SIDE / height], np.float32))[None].to(self._device)
        labels = torch.from_numpy(positive.astype(np.int32))[None].to(self._device)
        sparse, dense = self._sam.prompt_encoder(points=(scaled, labels), boxes=None, masks=None)
        logits, _ = self._sam.mask_decoder(
            image_embeddings=features,
            image_pe=self._sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        probability = interpolate(torch.sigmoid(logits), size, mode="bilinear", align_corners=False)
        return (probability[0, 0] > 0.5).cpu().numpy(), None


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(MedSam)
