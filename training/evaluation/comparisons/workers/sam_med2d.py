"""SAM-Med2D (Cheng et al., 2023) from a clone of OpenGVLab/SAM-Med2D, slice by slice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .clones import module_of
from .serve import Settings, serve
from .slices import SliceWise
from .weights import chosen, device_of, identity, load_into


class SamMed2d(SliceWise):
    """Points, and from the second click on the logits of the mask before; its own predictor resizes to 256²."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the file of SAM-Med2D's weights, sam-med2d_b.pth")
        self.weights = identity(path)
        build = module_of(settings, "segment_anything").sam_model_registry["vit_b"]
        self._sam = build(SimpleNamespace(image_size=256, sam_checkpoint=None, encoder_adapter=True))
        load_into(self._sam, path, trusted=self.trusted, key="model")
        self._sam.to(device_of(settings)).eval()
        self._predictor = module_of(settings, "segment_anything.predictor_sammed").SammedPredictor

    def embed(self, image: np.ndarray) -> Any:
        """A predictor that has seen the slice."""
        predictor = self._predictor(self._sam)
        predictor.set_image(np.repeat(image[..., None], 3, axis=2))
        return predictor

    def segment(
        self, embedding: Any, points: np.ndarray, positive: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, Any]:
        """The best of three masks at every click, as in its own evaluation."""
        masks, _, logits = embedding.predict(points, positive.astype(int), mask_input=previous, multimask_output=True)
        return masks[0] > 0, logits[:1]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SamMed2d)
