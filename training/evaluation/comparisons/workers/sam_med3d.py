"""SAM-Med3D (Wang et al., 2023) by the package `medim`.

Its own evaluation crops 128³ voxels around the true structure, which no user knows. Here a crop lies around a click: a
further click within the last crop refines it, one beyond it opens another. Where crops overlap, the later one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import medim
import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from .grids import brought_back, from_ras, resampled, to_ras
from .serve import Settings, Spacing, System, Voxel, serve
from .weights import chosen, device_of, identity, load_into

SPACING_MM = (1.5, 1.5, 1.5)
SIDE = 128


@dataclass
class _Crop:
    """A crop of the padded image, and what has been clicked and answered in it."""

    start: tuple[int, int, int]
    features: torch.Tensor
    points: list[tuple[int, int, int]]
    signs: list[int]
    logits: torch.Tensor

    def local(self, point: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """Where a point of the image lies in it, None beyond it."""
        x, y, z = (n - first for n, first in zip(point, self.start, strict=True))
        return (x, y, z) if all(0 <= n < SIDE for n in (x, y, z)) else None


class SamMed3d(System):
    """A click at a time, each with all clicks of its crop and the mask before."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "a file of SAM-Med3D's weights, such as sam_med3d_turbo.pth")
        self.weights = identity(path)
        self._device = device_of(settings)
        self._network = medim.create_model("SAM-Med3D", pretrained=False)
        load_into(self._network, path, trusted=self.trusted, key="model_state_dict")
        self._network.to(self._device).eval()
        self._crops: list[_Crop] = []

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Take a CT: on the network's grid, with room for a crop around its very corner."""
        self._shape = hu.shape
        image = to_ras(resampled(hu, spacing, SPACING_MM))
        self._scale = np.array(image.shape[:1:-1]) / hu.shape
        self._image = pad(image, [SIDE // 2] * 6)  # with 0, as in its training
        self.reset()

    def reset(self) -> None:
        """Take all clicks back."""
        self._crops = []

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Answer a click in its crop."""
        z, y, x = np.rint((np.array(voxel) + 0.5) * self._scale - 0.5).astype(int) + SIDE // 2
        nx, ny, _ = self._image.shape[2:]
        point = int(nx - 1 - x), int(ny - 1 - y), int(z)
        if not self._crops or self._crops[-1].local(point) is None:
            self._crops.append(self._opened(point))
        crop = self._crops[-1]
        crop.points.append(crop.local(point) or (0, 0, 0))
        crop.signs.append(int(positive))
        crop.logits = self._decoded(crop)

    def mask(self, structure: str | None) -> np.ndarray:
        """What the crops say; outside of them nothing."""
        logits = torch.full(self._image.shape, -1.0)
        for crop in self._crops:
            x, y, z = (slice(first, first + SIDE) for first in crop.start)
            logits[:, :, x, y, z] = interpolate(crop.logits, (SIDE,) * 3, mode="trilinear").cpu()
        inner = from_ras(pad(logits, [-SIDE // 2] * 6))
        return (brought_back(inner, self._shape) > 0)[0, 0].numpy()

    def _opened(self, centre: tuple[int, int, int]) -> _Crop:
        x, y, z = (n - SIDE // 2 for n in centre)
        patch = self._image[:, :, x : x + SIDE, y : y + SIDE, z : z + SIDE]
        body = patch[patch > 0]  # as in its training: what has positive HU gives mean and deviation
        if body.numel() > 1:
            patch = (patch - body.mean()) / body.std()
        features = self._network.image_encoder(patch.to(self._device))
        side = SIDE // 4
        return _Crop((x, y, z), features, [], [], torch.zeros(1, 1, side, side, side, device=self._device))

    def _decoded(self, crop: _Crop) -> torch.Tensor:
        points = torch.tensor([crop.points], dtype=torch.float32, device=self._device)
        signs = torch.tensor([crop.signs], device=self._device)
        sparse, dense = self._network.prompt_encoder(points=[points, signs], boxes=None, masks=crop.logits)
        logits, _ = self._network.mask_decoder(
            image_embeddings=crop.features,
            image_pe=self._network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        answer: torch.Tensor = logits
        return answer


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SamMed3d)
