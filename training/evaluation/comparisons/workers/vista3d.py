"""VISTA3D (He et al., 2024) by MONAI: its point branch, in patches around the clicks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from monai.apps.vista3d.inferer import point_based_window_inferer
from monai.networks.nets import vista3d132

from .clicked import AllAtOnce
from .grids import brought_back, from_ras, resampled, to_ras
from .serve import Settings, Spacing, serve
from .weights import chosen, device_of, identity, load_into

SPACING_MM = (1.5, 1.5, 1.5)
MIN_HU, MAX_HU = -963.8247715525971, 1053.678477684517
"""What the published bundle scales to 0 and 1."""
PATCH = (128, 128, 128)
ZERO_SHOT_CLASS = 133
"""Any number beyond the 132 supported classes says that the clicked structure is none of them."""


class Vista3d(AllAtOnce):
    """Clicks alone, without the name of a class; `zero_shot` says that the structure is none it was trained on."""

    OPTIONS: ClassVar[Mapping[str, str]] = {"zero_shot": "no"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the file of VISTA3D's weights, model.pt")
        self.weights = identity(path)
        self._device = device_of(settings)
        self._network = vista3d132(in_channels=1)
        load_into(self._network, path, trusted=self.trusted)
        self._network.to(self._device).eval()

    def prepare(self, hu: np.ndarray, spacing: Spacing) -> None:
        """The CT on the network's grid."""
        image = resampled(hu, spacing, SPACING_MM)
        self._scale = np.array(image.shape[2:]) / hu.shape
        self._image = to_ras((image.clip(MIN_HU, MAX_HU) - MIN_HU) / (MAX_HU - MIN_HU))

    def segment(self, voxels: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """The mean of the patches around the clicks; what lies in none of them is outside."""
        zyx = (voxels + 0.5) * self._scale - 0.5
        nx, ny, _ = self._image.shape[2:]
        xyz = np.stack([nx - 1 - zyx[:, 2], ny - 1 - zyx[:, 1], zyx[:, 0]], axis=1)
        prompt_class = [[ZERO_SHOT_CLASS]] if self.option["zero_shot"] == "yes" else [[0]]
        logits = point_based_window_inferer(
            self._image.to(self._device),
            PATCH,
            self._network,
            point_coords=torch.from_numpy(np.rint(xyz))[None].to(self._device),
            point_labels=torch.from_numpy(positive.astype(int))[None].to(self._device),
            prompt_class=torch.tensor(prompt_class, device=self._device),
            transpose=True,
        )
        return (brought_back(from_ras(torch.nan_to_num(logits, nan=-1.0)), self._hu.shape) > 0)[0, 0].numpy()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(Vista3d)
