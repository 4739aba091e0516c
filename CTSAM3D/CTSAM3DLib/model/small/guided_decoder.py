"""The bundled network's prompt decoder: PSAP with image features at 32³ and guidance maps.

It differs from the paper's decoder (`model/decoder.py`) in three points:

1. image features at 32³ and the image itself join the coarser levels;
2. guidance maps (`guidance.py`) join the prompt maps;
3. the mask is computed at 32³, eight voxels of 64³ as eight channels (`FineHead`), in place of a last upscaling.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.layers import Conv, Upscale, concatenated, float32_on_coarsest_grid, quality_head
from CTSAM3DLib.model.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from CTSAM3DLib.model.small.guidance import (
    embedding_maps,
    geodesic_proximity,
    guidance_maps,
    intensity_similarity,
    max_pooled,
)
from CTSAM3DLib.model.spade import PROMPT_MAPS, SpadeBlock


class FineHead(nn.Module):
    """Mask head: features at 32³, with image and intensity similarity at 64³, become mask logits at 64³.

    Eight voxels as eight channels of a grid of 32³ cost a third of convolutions at 64³ on a CPU.
    """

    def __init__(self, width: int, fine_width: int) -> None:
        super().__init__()
        self.conv = Conv(width + 8 * (1 + PROMPT_MAPS), fine_width)
        self.to_mask = Conv(fine_width, 8)

    def forward(self, x: Tensor, image: Tensor, similarity: Tensor) -> Tensor:
        joined = concatenated(x, pixel_unshuffle(image), pixel_unshuffle(similarity))  # (b, width + 8 + 24, 32, 32, 32)
        fine = F.leaky_relu(self.conv(joined), 0.2)
        return pixel_shuffle(self.to_mask(fine))  # (b, 8, 32, 32, 32) to (b, 1, 64, 64, 64)


class GuidedDecoder(nn.Module):
    """PSAP with guidance: image, levels at 32³ to 2³ and prompt maps become mask logits and a quality estimate.

    With a `semantic_width` the voxel embedding at 32³ (`embedding.py`) follows the image among the levels.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.prompt_resize != "pooled":
            raise ModelError(f"The network {config.name} has a fine_width; give it the prompt_resize 'pooled' too.")
        self.semantic_width = config.semantic_width
        maps = PROMPT_MAPS + guidance_maps(config)
        *skips, width = config.level_widths
        *hidden_widths, finest_hidden = config.prompt_widths
        *upscaled_widths, head_width = config.upscaled_widths
        self.blocks, self.upscales = nn.ModuleList(), nn.ModuleList()
        skip_widths = [*reversed(skips), config.fine_width]
        for hidden, upscaled, skip in zip(hidden_widths, upscaled_widths, skip_widths, strict=True):
            self.blocks.append(SpadeBlock(width, maps, hidden))
            self.upscales.append(Upscale(width, upscaled))
            width = upscaled + skip
        self.blocks.append(SpadeBlock(width, maps, finest_hidden))
        self.fine_head = FineHead(width, head_width)
        self.quality_head = quality_head(width, config.quality_width)

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Decode levels, as `CTSAM3D.encode` gives them, with prompt maps (b, 3, 64, 64, 64).

        Returns mask logits (b, 1, 64, 64, 64) and quality, the estimated Dice of the mask, (b,).
        """
        image, embedding, skips, x = self.unpacked(levels)
        (*coarse_maps, finest_maps), similarity = self.guided_prompts(image, embedding, prompts)
        for block, upscale, maps in zip(self.blocks, self.upscales, coarse_maps, strict=False):
            with float32_on_coarsest_grid(x):
                x = upscale(block(x, maps))  # (b, c, 2n, 2n, 2n): 4³, 8³, 16³, 32³
            x = concatenated(x, skips.pop())  # (b, c + level, 2n, 2n, 2n)
        x = self.blocks[-1](x, finest_maps)  # (b, c, 32, 32, 32)
        return self.fine_head(x, image, similarity), self.quality_head(x.mean(dim=(2, 3, 4)))[:, 0]

    def guided_prompts(self, image: Tensor, embedding: Tensor | None, prompts: Tensor) -> tuple[list[Tensor], Tensor]:
        """The prompt maps at 2³ to 32³ joined by guidance maps, and the intensity similarity (b, 3, 64, 64, 64)."""
        similarity = intensity_similarity(image, prompts)
        guidance = [F.avg_pool3d(similarity, 2), geodesic_proximity(image, prompts)]
        if embedding is not None:
            guidance.append(embedding_maps(embedding, prompts, self.semantic_width))
        return guided(pooled(prompts), concatenated(*guidance)), similarity

    def unpacked(self, levels: list[Tensor]) -> tuple[Tensor, Tensor | None, list[Tensor], Tensor]:
        """Split the encoder's levels.

        Returns the image (b, 1, 64, 64, 64), the voxel embedding (b, c, 32, 32, 32) if any, the levels at 32³ to 4³ as
        skips, and the level at 2³. All are float32: levels from a GPU can be bfloat16 and be decoded on the CPU.
        """
        image, *levels = levels
        embedding = levels.pop(0).float() if self.semantic_width else None
        *skips, x = levels
        return image.float(), embedding, skips, x.float()


def pooled(prompts: Tensor) -> list[Tensor]:
    """The prompt maps (b, 3, n, n, n) at n = 2, 4, 8, 16, 32: mean pooling of the mask, max pooling of the clicks.

    Interpolated as in the paper, a click would fall between the samples of the coarsest grids.
    """
    mask, clicks = prompts[:, :1], prompts[:, 1:]
    maps: list[Tensor] = []
    for _ in range(5):
        mask, clicks = F.avg_pool3d(mask, 2), max_pooled(clicks)
        maps.insert(0, concatenated(mask, clicks))
    return maps


def guided(resized: list[Tensor], guidance: Tensor) -> list[Tensor]:
    """The prompt maps at 2³ to 32³, each joined along channels by the guidance (b, g, 32, 32, 32), mean pooled."""
    joined: list[Tensor] = []
    for maps in reversed(resized):
        joined.insert(0, concatenated(maps, guidance))
        guidance = F.avg_pool3d(guidance, 2)
    return joined
