"""The bundled network's prompt decoder: PSAP with a finer grid of image features, and guidance maps.

It differs from the paper's decoder (`model/decoder.py`) in three points. Features at 32³ and the image itself join the
others; the prompts are joined by what the CT says of them (`guidance.py`); and the mask is computed at 32³, where each
voxel gives its eight parts (`FineHead`), rather than after a last upscaling.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.layers import Conv, Upscale, quality_head, stacked
from CTSAM3DLib.model.pixel_shuffle import shuffled, unshuffled
from CTSAM3DLib.model.small.guidance import guidance_maps, halved, nearness, of_one_structure, similarity
from CTSAM3DLib.model.spade import PROMPT_MAPS, SpadeBlock


class FineHead(nn.Module):
    """Mask logits at 64³ from features at 32³ and all eight voxels of the image and of its similarity under each.

    Eight voxels as eight channels of a grid of 32³ cost a third of what convolutions at 64³ do on a CPU.
    """

    def __init__(self, width: int, fine_width: int) -> None:
        super().__init__()
        self.conv = Conv(width + 8 * (1 + PROMPT_MAPS), fine_width)
        self.to_mask = Conv(fine_width, 8)

    def forward(self, x: Tensor, image: Tensor, likeness: Tensor) -> Tensor:
        fine = F.leaky_relu(self.conv(stacked(x, unshuffled(image), unshuffled(likeness))), 0.2)
        return shuffled(self.to_mask(fine))


class GuidedDecoder(nn.Module):
    """Image, levels at 32³ to 2³ and prompts (b, 3, 64, 64, 64) become mask logits and an estimate of quality.

    With a `semantic_width` the voxel embedding at 32³ (`embedding.py`) comes after the image.
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
        """Mask logits (b, 1, 64, 64, 64) and quality (b,)."""
        image, embedding, skips, x = self.unpacked(levels)
        likeness = similarity(image, prompts)
        guidance = [F.avg_pool3d(likeness, 2), nearness(image, prompts)]
        if embedding is not None:
            guidance.append(of_one_structure(embedding, prompts, self.semantic_width))
        *coarse_maps, finest_maps = guided(pooled(prompts), stacked(*guidance))
        for block, upscale, maps in zip(self.blocks, self.upscales, coarse_maps, strict=False):
            x = stacked(upscale(block(x, maps)), skips.pop())
        x = self.blocks[-1](x, finest_maps)  # (b, c, 32, 32, 32)
        return self.fine_head(x, image, likeness), self.quality_head(x.mean(dim=(2, 3, 4)))[:, 0]

    def unpacked(self, levels: list[Tensor]) -> tuple[Tensor, Tensor | None, list[Tensor], Tensor]:
        """The encoder's image (b, 1, 64³), embedding (b, c, 32³) if any, levels at 32³ to 4³, and that at 2³.

        What was computed in bfloat16 on a GPU may have to be decoded on the CPU, which wants float32.
        """
        image, *levels = levels
        embedding = levels.pop(0).float() if self.semantic_width else None
        *skips, x = levels
        return image.float(), embedding, skips, x.float()


def pooled(prompts: Tensor) -> list[Tensor]:
    """The prompt maps at 2³ to 32³: each voxel has the mean of the previous mask, and the greatest of the click maps.

    Interpolated as in the paper, a click would fall between the samples of the coarsest grids.
    """
    mask, clicks = prompts[:, :1], prompts[:, 1:]
    maps: list[Tensor] = []
    for _ in range(5):
        mask, clicks = F.avg_pool3d(mask, 2), halved(clicks)
        maps.insert(0, stacked(mask, clicks))
    return maps


def guided(resized: list[Tensor], guidance: Tensor) -> list[Tensor]:
    """The prompt maps at 2³ to 32³, each joined by the guidance at 32³, averaged over its parts."""
    joined: list[Tensor] = []
    for maps in reversed(resized):
        joined.insert(0, stacked(maps, guidance))
        guidance = F.avg_pool3d(guidance, 2)
    return joined
