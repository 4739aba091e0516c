"""nnU-Net (Isensee et al., 2021) by the package `nnunetv2`, automatic: a folder that its training has left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from .automatic import BTCV, Automatic
from .serve import Settings, Spacing, serve
from .trained_folder import write_random_training
from .weights import chosen, device_of, identity


class NnUNet(Automatic):
    """The mean of the folds that are there, mirrored as it was trained."""

    OPTIONS: ClassVar[Mapping[str, str]] = {"checkpoint": "checkpoint_final.pth", "mirroring": "yes"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the folder that nnU-Net's training has left, with plans.json and fold_0")
        self.weights = identity(path)
        if path is None:
            path = Path("Dataset001_Random", "nnUNetTrainer__nnUNetPlans__3d_fullres")
            write_random_training(path, BTCV, 3.0, "nnUNetTrainer")
        device = device_of(settings)
        self._predictor = nnUNetPredictor(
            use_mirroring=self.option["mirroring"] == "yes", perform_everything_on_device=True, device=device
        )
        self._predictor.initialize_from_trained_model_folder(str(path), None, self.option["checkpoint"])
        labels = json.loads((path / "dataset.json").read_text(encoding="utf-8"))["labels"]
        self._values = {name: value for name, value in labels.items() if isinstance(value, int) and value > 0}
        self.classes = tuple(self._values)

    def label_map(self, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
        """What the predictor says; it resamples and normalises by its own plans."""
        answer = self._predictor.predict_single_npy_array(hu[None].astype(np.float32), {"spacing": list(spacing)})
        labels = np.zeros(hu.shape, np.int64)
        for number, value in enumerate(self._values.values(), 1):
            labels[np.asarray(answer) == value] = number
        return labels


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(NnUNet)
