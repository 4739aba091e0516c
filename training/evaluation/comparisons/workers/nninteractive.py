"""nnInteractive (Isensee et al., 2025) by the package `nninteractive`: its own session, point by point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

from .serve import Settings, Spacing, System, Voxel, serve
from .trained_folder import write_random_training
from .weights import chosen, device_of, identity

INTERACTION_CHANNELS = 7
"""The mask before, and two for each kind of prompt."""


class NnInteractive(System):
    """Each point goes on from the mask before, with its own zooming out where the mask reaches a border."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the folder of nnInteractive's weights, nnInteractive_v1.0")
        self.weights = identity(path)
        if path is None:
            path = Path("Dataset001_Random", "nnInteractiveTrainer_stub__nnUNetPlans__3d_fullres")
            write_random_training(path, ["object"], 1.0, "nnInteractiveTrainer_stub", 1 + INTERACTION_CHANNELS)
            (path / "inference_info.json").write_text("{}")
        device = device_of(settings)
        self._session = nnInteractiveInferenceSession(device=device, torch_n_threads=torch.get_num_threads())
        self._session.initialize_from_trained_model_folder(str(path))

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Take a CT; the session knows voxels alone, no millimetres."""
        self._target = np.zeros(hu.shape, np.uint8)
        self._session.set_image(hu[None].astype(np.float32))
        self._session.set_target_buffer(self._target)

    def reset(self) -> None:
        """Take all clicks back."""
        self._session.reset_interactions()

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Answer a click."""
        self._session.add_point_interaction(voxel, include_interaction=positive)

    def mask(self, structure: str | None) -> np.ndarray:
        """What the session has written."""
        return self._target


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(NnInteractive)
