"""SAM's prompting in three dimensions: random Fourier features, compared to PSAP in the paper's Table 4.

A click is a token: Fourier features of its position (paper, Eq. 1; Tancik et al., NeurIPS 2020) plus a learned
embedding of its sign. The previous mask is added to the image features. A two-way transformer updates tokens and image
features; the mask token then gives the filter that finds the mask in the upscaled features (Kirillov et al., "Segment
Anything", ICCV 2023; the transformer is MONAI's port to 3D). The paper leaves the details of its ablation open. Here
the grid of image tokens is 16³, upscaled twice to 64³ as in SAM; it is the sum of all levels of the encoder, which PSAP
gets too. At the paper's sizes there are 256 channels, 8 heads and two layers,
as in SAM: 3.9 M parameters and 3.0 G multiply-adds per patch (PSAP 32.3 M and 125.2 G).

Tensors are (batch, channel, z, y, x), tokens (batch, n, channel); positions are z, y, x in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.nets.vista3d import MLP, TwoWayTransformer
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.encoder import grid_from
from CTSAM3DLib.model.layers import ChannelNorm, Upscale

FREQUENCIES = 128
SCALE = 1.0
"""Standard deviation of the frequencies, in periods per half a patch."""
HEAD_WIDTH = 32
"""Channels of each attention head, as in SAM; there are as many heads as in the last stage of the encoder."""
GRID = 16
"""Side of the grid of image tokens."""
MAX_CLICKS = 16
"""Clicks of each sign that become tokens; further clicks are ignored."""
PEAK = 0.95
"""Height of a click in a click map: 1 at the click, at most 0.88 beside it, also where clicks overlap."""


def clicks_in(click_map: Tensor) -> tuple[Tensor, Tensor]:
    """The clicks in click maps (b, z, y, x): positions (b, MAX_CLICKS, 3), and whether each is one (b, MAX_CLICKS)."""
    heights, indices = click_map.flatten(1).topk(MAX_CLICKS)
    voxels = torch.stack(torch.unravel_index(indices, click_map.shape[1:]), dim=-1)
    return centres(voxels, click_map.shape[-1]), heights > PEAK


def grid_positions(side: int, device: torch.device) -> Tensor:
    """Positions of the voxels of a grid, (side³, 3), in the order of its tokens."""
    along = torch.arange(side, device=device)
    return centres(torch.cartesian_prod(along, along, along), side)


def centres(voxels: Tensor, side: int) -> Tensor:
    """Positions, -1..1 over the patch, of the centres of voxels of a grid with `side`³ voxels."""
    return (2 * voxels + 1) / side - 1


class FourierFeatures(nn.Module):
    """Positions (..., 3) become (..., width): cos and sin of 2π b·v for random frequencies b (Eq. 1)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", SCALE * torch.randn(3, FREQUENCIES))
        # A narrower network keeps all frequencies and projects them, since fewer would separate positions worse.
        self.to_width = nn.Identity() if width == 2 * FREQUENCIES else nn.Linear(2 * FREQUENCIES, width)

    def forward(self, positions: Tensor) -> Tensor:
        # A matrix product would round the phases to bfloat16 under autocast.
        phases = 2 * torch.pi * (positions[..., None] * self.frequencies).sum(-2)
        return self.to_width(torch.cat([phases.cos(), phases.sin()], dim=-1))


class MaskEmbedding(nn.Sequential):
    """The previous mask (b, 1, 64, 64, 64) becomes features (b, width, 16, 16, 16)."""

    def __init__(self, width: int) -> None:
        first, second = width // 16, width // 4
        super().__init__(
            nn.Conv3d(1, first, 2, stride=2),
            ChannelNorm(first),
            nn.GELU(),
            nn.Conv3d(first, second, 2, stride=2),
            ChannelNorm(second),
            nn.GELU(),
            nn.Conv3d(second, width, 1),
        )


class FourierDecoder(nn.Module):
    """Levels and prompt maps, as `PromptDecoder` takes them, become mask logits and a quality estimate.

    The clicks are recovered from their maps. With a `fine_width` the image and the level at 32³ are added to the
    upscaled features, as in SAM 2 (Ravi et al., 2024); there are no guidance maps, which SAM does not have.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        heads = config.encoder_heads[-1]
        width = HEAD_WIDTH * heads
        self.embed_levels = nn.ModuleList(nn.Conv3d(level_width, width, 1) for level_width in config.level_widths)
        self.image_norm = ChannelNorm(width)
        self.embed_mask = MaskEmbedding(width)
        self.embed_position = FourierFeatures(width)
        self.positive = nn.Parameter(torch.randn(width))
        self.negative = nn.Parameter(torch.randn(width))
        self.no_click = nn.Parameter(torch.randn(width))
        self.mask_token = nn.Parameter(torch.randn(width))
        self.quality_token = nn.Parameter(torch.randn(width))
        self.transformer = TwoWayTransformer(2, width, num_heads=heads, mlp_dim=8 * width)
        self.upscales = nn.ModuleList([Upscale(width, width // 4), Upscale(width // 4, width // 8)])
        self.skips = nn.ModuleList()
        if config.fine_width:
            self.skips.extend([nn.Conv3d(config.fine_width, width // 4, 1), nn.Conv3d(1, width // 8, 1)])
        self.filter_head = MLP(width, width, width // 8, num_layers=3)
        self.quality_head = MLP(width, config.quality_width, 1, num_layers=3)

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (b, 1, 64, 64, 64) and quality (b,)."""
        previous, positive, negative = prompts.unbind(dim=1)
        coarse = levels[-len(self.embed_levels) :]
        image = self._image_features(coarse) + self.embed_mask(previous[:, None])
        tokens = torch.cat(  # (b, 2 + 2 * MAX_CLICKS, width)
            [
                torch.stack([self.mask_token, self.quality_token]).expand(len(prompts), -1, -1),
                self._click_tokens(positive, self.positive),
                self._click_tokens(negative, self.negative),
            ],
            dim=1,
        )
        image_positions = self.embed_position(grid_positions(GRID, prompts.device)).transpose(0, 1)[None]
        tokens, image_tokens = self.transformer(image, image_positions, tokens)
        upscaled = self._upscaled(grid_from(image_tokens, GRID), levels[: -len(coarse)])  # (b, width / 8, 64, 64, 64)
        logits = torch.einsum("bc,bczyx->bzyx", self.filter_head(tokens[:, 0]), upscaled)
        return logits[:, None], self.quality_head(tokens[:, 1])[:, 0]

    def _image_features(self, coarse: list[Tensor]) -> Tensor:
        """The sum of all levels, (b, width, 16, 16, 16)."""
        features = [
            F.interpolate(embed(level), size=(GRID, GRID, GRID), mode="trilinear", align_corners=False)
            for embed, level in zip(self.embed_levels, coarse, strict=True)
        ]
        return self.image_norm(torch.stack(features).sum(dim=0))

    def _click_tokens(self, click_map: Tensor, sign: Tensor) -> Tensor:
        """Tokens (b, MAX_CLICKS, width); a learned token stands for absent clicks."""
        positions, are_clicks = clicks_in(click_map)
        return torch.where(are_clicks[..., None], self.embed_position(positions) + sign, self.no_click)

    def _upscaled(self, x: Tensor, fine: list[Tensor]) -> Tensor:
        """Features (b, width / 8, 64, 64, 64); `fine` is empty, or the image and the level at 32³."""
        for index, upscale in enumerate(self.upscales):
            x = upscale(x)
            if fine:
                x = x + self.skips[index](fine[-1 - index])
        return x
