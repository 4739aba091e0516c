"""SegVol (Du et al., 2024) from a clone of BAAI-DCAI/SegVol: points, zoom out, then zoom in.

The whole CT is shrunk and segmented first; patches of the CT itself then slide over where something was found, each
with the clicks in it and the box of what was found in it. Its text prompts are not used.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from torch.nn.functional import interpolate, pad

from .clicked import AllAtOnce
from .clones import module_of
from .serve import Settings, Spacing, serve
from .weights import chosen, device_of, identity, load_into

PATCH = (32, 256, 256)
TOKEN = (4, 16, 16)


class _Network(torch.nn.Module):
    """SegVol's parts but for its text encoder, called as SegVol calls them."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.image_encoder: Any = parts.image_encoder
        self.prompt_encoder: Any = parts.prompt_encoder
        self.mask_decoder: Any = parts.mask_decoder

    def forward(
        self, image: torch.Tensor, points: tuple[torch.Tensor, torch.Tensor] | None, box: torch.Tensor | None
    ) -> torch.Tensor:
        """The logits of an image (1, 1, *PATCH) of 0..1; points (1, n, 3) with signs (1, n), box (1, 1, 6)."""
        tokens, _ = self.image_encoder(image)
        grid = [side // token for side, token in zip(PATCH, TOKEN, strict=True)]
        features = tokens.transpose(1, 2).reshape(1, -1, *grid)
        sparse, dense = self.prompt_encoder(points=points, boxes=box, masks=None, text_embedding=None)
        logits, _ = self.mask_decoder(
            image_embeddings=features,
            text_embedding=None,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return interpolate(logits, PATCH, mode="trilinear", align_corners=False)


class SegVol(AllAtOnce):
    """All clicks at once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, "the file of SegVol's weights, SegVol_v1.pth")
        self.weights = identity(path)
        self._device = device_of(settings)
        build = module_of(settings, "segment_anything_volumetric").sam_model_registry["vit"]
        self._network = _Network(build(args=SimpleNamespace(patch_size=TOKEN, spatial_size=PATCH)))
        load_into(self._network, path, trusted=self.trusted, key="model", prefix="module.", without="text_encoder.")
        self._network.to(self._device).eval()

    def prepare(self, hu: np.ndarray, spacing: Spacing) -> None:
        """The CT as 0..1 with rows to the front and columns to the right, cropped to what is not 0."""
        self._ct_shape = hu.shape
        turned = hu[:, ::-1, ::-1].astype(np.float32)
        body = turned[turned > turned.mean()]
        image = turned.clip(*np.percentile(body, [0.05, 99.95]).astype(np.float32))
        image = (image - image.min()) / max(float(np.ptp(image)), 1e-8)
        found = np.argwhere(image > 0)
        self._box = tuple(slice(int(a), int(b) + 1) for a, b in zip(found.min(0), found.max(0), strict=True))
        cropped = torch.from_numpy(image[self._box])[None, None]
        short = [max(0, side - n) for side, n in zip(PATCH, cropped.shape[2:], strict=True)]
        self._image = pad(cropped, [n for side in reversed(short) for n in (0, side)])
        self._small = interpolate(self._image, PATCH, mode="nearest-exact")

    def segment(self, voxels: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """Zoom out, then in."""
        start = np.array([part.start for part in self._box])
        last = np.array(self._ct_shape) - 1
        places = voxels * [1, -1, -1] + [0, last[1], last[2]] - start
        scale = np.array(PATCH) / np.array(self._image.shape[2:])
        logits = self._ask(self._small, places * scale, positive, None)
        logits = interpolate(logits, self._image.shape[2:], mode="nearest-exact")
        logits = self._zoomed_in(logits, places, positive)
        inner = tuple(slice(part.stop - part.start) for part in self._box)
        mask = np.zeros(self._ct_shape, bool)
        mask[self._box] = (logits[0, 0][inner] > 0).numpy()
        return mask[:, ::-1, ::-1]

    def _zoomed_in(self, coarse: torch.Tensor, places: np.ndarray, positive: np.ndarray) -> torch.Tensor:
        """The mean of the patches that hold something of the coarse mask; the coarse logits elsewhere."""
        total, count = torch.zeros_like(coarse), torch.zeros_like(coarse)
        step = tuple(side // 2 for side in PATCH)
        windows = dense_patch_slices(coarse.shape[2:], PATCH, step)
        for number, window in enumerate(windows):
            self.progress(number / len(windows))
            inside = torch.argwhere(coarse[0, 0][window] > 0)
            if len(inside) == 0:
                continue
            box = torch.cat([inside.amin(0), inside.amax(0)])[None, None].float()
            local = places - [part.start for part in window]
            here = np.all((local >= 0) & (local < PATCH), axis=1)
            patch = self._image[:, :, window[0], window[1], window[2]]
            total[0, 0][window] += self._ask(patch, local[here], positive[here], box)[0, 0]
            count[0, 0][window] += 1
        return torch.where(count > 0, total / count.clip(min=1), coarse)

    def _ask(
        self, image: torch.Tensor, places: np.ndarray, positive: np.ndarray, box: torch.Tensor | None
    ) -> torch.Tensor:
        points = None
        if len(places):
            points = (
                torch.from_numpy(places)[None].float().to(self._device),
                torch.from_numpy(positive.astype(np.float32))[None].to(self._device),
            )
        of_box = None if box is None else box.to(self._device)
        answer: torch.Tensor = self._network(image.to(self._device), points, of_box)
        return answer.cpu()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(SegVol)
