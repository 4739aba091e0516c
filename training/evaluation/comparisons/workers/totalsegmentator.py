"""TotalSegmentator (Wasserthal et al., 2023) by its Python API, automatic."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import torch

from .automatic import Automatic
from .serve import FRESH, Settings, Spacing, serve
from .trained_folder import write_random_training
from .weights import chosen, device_of, identity

FAST_TASK = 297
FAST_TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"


class TotalSegmentator(Automatic):
    """The task "total", with the package's weights, which it downloads where they are not there.

    It keeps its settings in a folder of ours, where it is told to send no usage statistics.
    """

    OPTIONS: ClassVar[Mapping[str, str]] = {"fast": "no"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        version = importlib.metadata.version("TotalSegmentator")
        home = Path("totalsegmentator").resolve()
        home.mkdir()
        (home / "config.json").write_text(
            json.dumps({"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0})
        )
        os.environ["TOTALSEG_HOME_DIR"] = str(home)
        if settings.weights is None:
            kept = Path.home() / ".totalsegmentator" / "nnunet" / "results"
            self.weights = version
        else:
            path = chosen(settings, "the folder of TotalSegmentator's weights")
            self.weights = identity(path)
            kept = path or home / "weights"
        os.environ.setdefault("TOTALSEG_WEIGHTS_PATH", str(kept))
        self._fast = self.option["fast"] == "yes" or settings.weights == FRESH

        # The package reads its environment when it is imported.
        from totalsegmentator.libs import TASK_ID_WEIGHTS_CONFIGS
        from totalsegmentator.map_to_binary import class_map

        names = class_map["total"]
        self.classes = tuple(names[value] for value in sorted(names))
        if settings.weights == FRESH:
            folder = kept / TASK_ID_WEIGHTS_CONFIGS[FAST_TASK]["foldername"]
            trained = folder / f"{FAST_TRAINER}__nnUNetPlans__3d_fullres"
            write_random_training(trained, self.classes, 3.0, FAST_TRAINER, patch=48)

    def label_map(self, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
        """What its function answers for the CT as a NIfTI image."""
        from totalsegmentator.python_api import totalsegmentator

        z, y, x = spacing
        image = nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.float32), np.diag([-x, -y, z, 1.0]))
        device = device_of(self.settings).type
        answer = totalsegmentator(
            image, None, ml=True, fast=self._fast, quiet=True, device="gpu" if device == "cuda" else device
        )
        return np.asarray(answer.dataobj).transpose(2, 1, 0).astype(np.int64)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(TotalSegmentator)
