"""SAM (Kirillov et al., 2023) by the package `segment-anything`, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry

from .serve import Settings, serve
from .slices import SliceWise
from .weights import chosen, device_of, identity, load_into


class SegmentAnything(SliceWise):
    """SAM with points, and from the second click on with the logits of the mask before."""

    OPTIONS: ClassVar[Mapping[str, str]] = {**SliceWise.OPTIONS, "variant": "vit_b"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "a file of SAM's weights, such as sam_vit_b_01ec64.pth")
        self.weights = identity(path)
        self._sam = sam_model_registry[self.option["variant"]]()
        load_into(self._sam, path, trusted=self.trusted)
        self._sam.to(device_of(settings)).eval()

    def embed(self, image: np.ndarray) -> SamPredictor:
        """A predictor that has seen the slice."""
        predictor = SamPredictor(self._sam)
        predictor.set_image(np.repeat(image[..., None], 3, axis=2))
        return predictor

    def segment(
        self, embedding: SamPredictor, points: np.ndarray, positive: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, Any]:
        """One click is ambiguous, so that SAM answers three masks then, of which it rates one best."""
        masks, scores, logits = embedding.predict(
            points, positive.astype(int), mask_input=previous, multimask_output=len(points) == 1
        )
        best = int(scores.argmax())
        return masks[best], logits[best : best + 1]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SegmentAnything)
