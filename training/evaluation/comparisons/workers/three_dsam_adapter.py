"""3DSAM-adapter (Gong et al., 2024) from a clone of med-air/3DSAM-adapter: positive points, one patch of 128 mm.

Its repository has no licence, so that nothing but a clone of the user's own may be run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from .clicked import AllAtOnce
from .clones import module_of
from .grids import brought_back, resampled
from .serve import Refusal, Settings, Spacing, serve
from .weights import chosen, device_of, identity, read

FOLDER = "3DSAM-adapter"
SPACING_MM = (1.0, 1.0, 1.0)
SIDE = 128
STATISTICS = {
    "kits": (-54.0, 247.0, 59.53867, 55.457336),
    "lits": (-48.0, 163.0, 60.057533, 40.198017),
    "pancreas": (-39.0, 204.0, 68.45214, 63.422806),
    "colon": (-57.0, 175.0, 65.175035, 32.651197),
}
"""Of each data set: the HU that are clipped to, their mean and deviation."""


class ThreeDSamAdapter(AllAtOnce):
    """A network for each tumour; it knows no negative points, and nothing beyond the patch around the points."""

    OPTIONS: ClassVar[Mapping[str, str]] = {"data": "pancreas"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if self.option["data"] not in STATISTICS:
            raise Refusal(f"it has no network for {self.option['data']}; choose data among: {', '.join(STATISTICS)}.")
        path = chosen(settings, "the file best.pth.tar or last.pth.tar of one tumour")
        self.weights = identity(path)
        self._device = device_of(settings)
        self._encoder, self._prompts, self._decoder = self._built()
        if path is not None:
            content = read(path, self.trusted)
            self._encoder.load_state_dict(content["encoder_dict"])
            for encoder, tensors in zip(self._prompts, content["feature_dict"], strict=True):
                encoder.load_state_dict(tensors)
            self._decoder.load_state_dict(content["decoder_dict"])
        for part in (self._encoder, *self._prompts, self._decoder):
            part.to(self._device).eval()

    def prepare(self, hu: np.ndarray, spacing: Spacing) -> None:
        """The CT in voxels of 1 mm, rows to the front and columns to the right, with room around it."""
        low, high, mean, deviation = STATISTICS[self.option["data"]]
        image = resampled(hu[:, ::-1, ::-1], spacing, SPACING_MM)
        self._scale = np.array(image.shape[2:]) / hu.shape
        self._image = pad((image.clip(low, high) - mean) / deviation, [SIDE] * 6)

    def segment(self, voxels: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """The mask in the patch around the middle of the positive points."""
        last = np.array(self._hu.shape) - 1
        turned = voxels[positive] * [1, -1, -1] + [0, last[1], last[2]]
        places = np.rint((turned + 0.5) * self._scale - 0.5).astype(int) + SIDE
        start = (places.min(0) + places.max(0)) // 2 - SIDE // 2
        window = tuple(slice(int(first), int(first) + SIDE) for first in start)
        shares = torch.zeros_like(self._image)
        shares[0, 0][window] = self._probability(self._image[0, 0][window], places - start)
        inner = shares[:, :, SIDE:-SIDE, SIDE:-SIDE, SIDE:-SIDE]
        return (brought_back(inner, self._hu.shape)[0, 0] > 0.5).numpy()[:, ::-1, ::-1]

    def _probability(self, patch: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """That of the tumour in a patch (SIDE, SIDE, SIDE) with points z, y, x in it."""
        image = patch[None, None].expand(1, 3, -1, -1, -1).to(self._device)
        slices = interpolate(image, scale_factor=512 / SIDE, mode="trilinear")[0].transpose(0, 1)
        last, features = self._encoder(slices)
        features = [*features, last]
        # Its points are z, x, y.
        points = torch.from_numpy(places[:, [0, 2, 1]])[:, None].float().to(self._device).transpose(0, 1)
        features[3] = self._prompts[3](features[3], points, [SIDE] * 3)
        small = interpolate(image[:, :1].permute(0, 1, 3, 4, 2), scale_factor=64 / SIDE, mode="trilinear")
        logits = self._decoder([*features, small], 2, SIDE // 64).permute(0, 1, 4, 2, 3)
        answer: torch.Tensor = logits.softmax(1)[0, 1].cpu()
        return answer

    def _built(self) -> tuple[torch.nn.Module, list[torch.nn.Module], torch.nn.Module]:
        """The network of its test script: encoder, four prompt encoders of which one is used, decoder."""
        encoders = module_of(self.settings, "modeling.image_encoder", FOLDER)
        prompts = module_of(self.settings, "modeling.prompt_encoder", FOLDER)
        decoders = module_of(self.settings, "modeling.mask_decoder", FOLDER)
        encoder = encoders.ImageEncoderViT_3d_v2(
            depth=12,
            embed_dim=768,
            img_size=1024,
            mlp_ratio=4,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=12,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[2, 5, 8, 11],
            window_size=14,
            cubic_window_size=8,
            out_chans=256,
            num_slice=16,
        )
        of_prompts = [
            prompts.PromptEncoder(
                transformer=prompts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
            )
            for _ in range(4)
        ]
        return encoder, of_prompts, decoders.VIT_MLAHead_h(img_size=96)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(ThreeDSamAdapter)
