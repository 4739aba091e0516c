"""The prompt decoder: progressively and spatially aligned prompts (paper, "PSAP", Eq. 2).

At each resolution the prompt maps M = [previous mask, positive clicks, negative clicks] are resized to the feature
grid and turned into a scale γ(M) and a shift β(M) of instance-normed features, voxel by voxel, so that a click acts
exactly where it was placed. The paper multiplies by γ; the published network by 1 + γ, and so do we.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.folding import shuffled, unshuffled
from CTSAM3DLib.model.guidance import guidance_maps, halved, nearness, of_one_structure, similarity

PROMPT_MAPS = 3
MASK_CHANNELS = 2
"""The published head has two channels; the mask is the first, the second was never trained."""


class Conv(nn.Conv3d):
    """A convolution of 3³ voxels, by oneDNN also for a single patch of few channels.

    There PyTorch would choose a plain loop on the CPU, which makes the small network's decoder four times slower.
    """

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__(width, new_width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if torch.compiler.is_compiling() or not (plain and torch.backends.mkldnn.is_available()):
            return super().forward(x)
        padding = stride = dilation = (1, 1, 1)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, stride, dilation, 1)


class PromptNorm(nn.Module):
    """Instance norm whose scale and shift are read off the prompt maps at every voxel (Eq. 2)."""

    def __init__(self, width: int, maps: int, prompt_width: int) -> None:
        super().__init__()
        self.shared = Conv(maps, prompt_width)
        self.scale_and_shift = Conv(prompt_width, 2 * width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        gamma, beta = self.scale_and_shift(F.relu(self.shared(prompts))).chunk(2, dim=1)
        return F.instance_norm(x) * (1 + gamma) + beta


class PromptBlock(nn.Module):
    """A residual block of two convolutions, each after a prompt norm and a leaky ReLU."""

    def __init__(self, width: int, maps: int, prompt_width: int) -> None:
        super().__init__()
        self.norm0 = PromptNorm(width, maps, prompt_width)
        self.conv0 = Conv(width, width)
        self.norm1 = PromptNorm(width, maps, prompt_width)
        self.conv1 = Conv(width, width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        y = self.conv0(F.leaky_relu(self.norm0(x, prompts), 0.2))
        y = self.conv1(F.leaky_relu(self.norm1(y, prompts), 0.2))
        return x + y


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel of (batch, channel, z, y, x)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # In bfloat16 the gradients of its weights, summed over all voxels, would lose most of their value.
        return super().forward(x.movedim(1, -1).float()).movedim(-1, 1)


class Upscale(nn.Sequential):
    """Doubles the grid."""

    def __init__(self, width: int, upscaled_width: int) -> None:
        super().__init__(nn.ConvTranspose3d(width, upscaled_width, 2, stride=2), ChannelNorm(upscaled_width), nn.GELU())


def interpolated(prompts: Tensor) -> list[Tensor]:
    """The prompt maps at 2³, 4³, 8³, 16³ and 32³, interpolated trilinearly as in the published network."""
    sides = (2, 4, 8, 16, 32)
    return [F.interpolate(prompts, size=(n, n, n), mode="trilinear", align_corners=False) for n in sides]


def pooled(prompts: Tensor) -> list[Tensor]:
    """The same grids; each voxel has the mean of the previous mask and the greatest of the click maps over its part."""
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


def stacked(*parts: Tensor) -> Tensor:
    """The channels of all parts in the memory layout that convolutions want; left alone, a mixture would be slow."""
    return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last_3d)


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


def precise(x: Tensor) -> torch.autocast:
    """Float32 for a grid of 2³ on the CPU, where oneDNN's bfloat16 weight gradients are wrong on some processors."""
    on = torch.is_autocast_enabled(x.device.type) and not (x.device.type == "cpu" and x.shape[-1] <= 2)
    return torch.autocast(x.device.type, torch.bfloat16, enabled=on)


class PromptDecoder(nn.Module):
    """Levels at 16³, 8³, 4³, 2³ and prompts (batch, 3, 64, 64, 64) become mask logits and an estimate of quality.

    With a `fine_width` the image and a level at 32³ come before the others; the prompts are then joined by what the
    image says of them, and the mask is read off at 32³ (`FineHead`) rather than after a last upscaling.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.prompt_resize = config.prompt_resize
        self.fine = config.fine_width > 0
        self.semantic_width = config.semantic_width
        maps = PROMPT_MAPS + guidance_maps(config)
        *skips, deepest = config.level_widths
        skip_widths = [*reversed(skips), config.fine_width, 0]
        self.blocks = nn.ModuleList()
        self.upscales = nn.ModuleList()
        width = deepest
        for prompt_width, upscaled, skip in zip(config.prompt_widths, config.upscaled_widths, skip_widths, strict=True):
            self.blocks.append(PromptBlock(width, maps, prompt_width))
            if self.fine and len(self.blocks) == len(skip_widths):
                self.fine_head = FineHead(width, upscaled)
            else:
                self.upscales.append(Upscale(width, upscaled))
                width = upscaled + skip
        if not self.fine:
            self.mask_head = Conv(width, MASK_CHANNELS)
        hidden = config.quality_width
        self.quality_head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, MASK_CHANNELS),
        )

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (batch, 1, 64, 64, 64) and quality (batch,)."""
        if not self.fine:
            return self._read_off(self._climbed(levels, self._resized(prompts)))
        image, *levels = levels
        image = image.float()  # features made in bfloat16 on a GPU may have to be decoded on the CPU
        known = None
        if self.semantic_width:
            known, *levels = levels
            known = known.float()
        maps, likeness = self.with_guidance(image, known, prompts)
        x = self._climbed(levels, maps)
        return self._read_off_fine(x, image, likeness), self._quality(x.mean(dim=(2, 3, 4)))

    def _resized(self, prompts: Tensor) -> list[Tensor]:
        return pooled(prompts) if self.prompt_resize == "pooled" else interpolated(prompts)

    def with_guidance(self, image: Tensor, known: Tensor | None, prompts: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of each grid with their guidance, and of the guidance the similarity at 64³."""
        likeness = similarity(image, prompts)
        guidance = [F.avg_pool3d(likeness, 2), nearness(image, prompts)]
        if known is not None:
            guidance.append(of_one_structure(known, prompts, self.semantic_width))
        return guided(self._resized(prompts), stacked(*guidance)), likeness

    def _read_off_fine(self, x: Tensor, image: Tensor, likeness: Tensor) -> Tensor:
        logits: Tensor = self.fine_head(x, image, likeness)
        return logits

    def _climbed(self, levels: list[Tensor], maps: list[Tensor]) -> Tensor:
        """Features at 32³ after the last block: from 2³ upwards, joined by the level of each grid that has one."""
        *skips, x = levels
        x = x.float()  # see `precise`
        for block, upscale, resized in zip(self.blocks, self.upscales, maps[:-1], strict=False):
            with precise(x):
                x = upscale(block(x, resized))
            if skips:
                x = stacked(x, skips.pop())
        return self.blocks[-1](x, maps[-1])

    def _read_off(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits and quality from the features after the last block, by a last upscaling."""
        x = self.upscales[-1](x)
        return self.mask_head(x)[:, :1], self._quality(x.mean(dim=(2, 3, 4)))

    def _quality(self, mean: Tensor) -> Tensor:
        return self.quality_head(mean)[:, 0]
