"""SAM 2 (Ravi et al., 2024) by the package `sam2`, slice by slice as an image model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

from .serve import Settings, serve
from .slices import SliceWise
from .weights import chosen, device_of, identity, load_into


class SegmentAnything2(SliceWise):
    """SAM 2 with points, and from the second click on with the logits of the mask before."""

    OPTIONS: ClassVar[Mapping[str, str]] = {**SliceWise.OPTIONS, "config": "configs/sam2.1/sam2.1_hiera_b+.yaml"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "a file of SAM 2's weights, such as sam2.1_hiera_base_plus.pt")
        self.weights = identity(path)
        self._sam = build_sam2(self.option["config"], device=str(device_of(settings)))
        load_into(self._sam, path, trusted=self.trusted, key="model")

    def embed(self, image: np.ndarray) -> SAM2ImagePredictor:
        """A predictor that has seen the slice."""
        predictor = SAM2ImagePredictor(self._sam)
        predictor.set_image(np.repeat(image[..., None], 3, axis=2))
        return predictor

    def segment(
        self, embedding: SAM2ImagePredictor, points: np.ndarray, positive: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, Any]:
        """One click is ambiguous, so that SAM 2 answers three masks then, of which it rates one best."""
        masks, scores, logits = embedding.predict(
            points, positive.astype(int), mask_input=previous, multimask_output=len(points) == 1
        )
        best = int(scores.argmax())
        return masks[best], logits[best : best + 1]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SegmentAnything2)
