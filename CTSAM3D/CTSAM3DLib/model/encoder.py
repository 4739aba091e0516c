"""The image encoder: ResT v2 in three dimensions (paper, "CT-SAM3D Architecture").

A stem halves the grid twice; three further stages halve it once each. Every stage is a few transformer blocks whose
keys and values are reduced by a strided depthwise convolution, which keeps attention over 16³ tokens cheap.
Images and features are (batch, channel, z, y, x); tokens are (batch, z*y*x, channel).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.configs import NetworkConfig

LAYER_NORM_EPSILON = 1e-6


def tokens_from(grid: Tensor) -> Tensor:
    """(batch, channel, z, y, x) to (batch, z*y*x, channel)."""
    return grid.flatten(2).transpose(1, 2)


def grid_from(tokens: Tensor, side: int) -> Tensor:
    """(batch, side³, channel) to (batch, channel, side, side, side)."""
    return tokens.transpose(1, 2).unflatten(2, (side, side, side))


class PositionGate(nn.Module):
    """Position encoding of ResT: x · sigmoid(depthwise convolution of x), (b, width, n, n, n)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x))


class Embedding(nn.Module):
    """Patch embedding: `project` halves the grid, the position gate follows, and layer norm makes tokens."""

    def __init__(self, project: nn.Module, width: int) -> None:
        super().__init__()
        self.project = project
        self.gate = PositionGate(width)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(tokens_from(self.gate(self.project(x))))  # (b, n³, width)


def stem(stem_width: int, width: int) -> nn.Sequential:
    """The stem, (b, 1, 64, 64, 64) to (b, width, 16, 16, 16): two strided convolutions and a pointwise one."""
    return nn.Sequential(
        nn.Conv3d(1, stem_width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(stem_width),
        nn.ReLU(inplace=True),
        nn.Conv3d(stem_width, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.Conv3d(width, width, 1),
    )


class Attention(nn.Module):
    """Multi-head attention over reduced keys and values; as in ResT v2, upsampled values are added to its output."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.reduce: nn.Conv3d | None = None
        if reduction > 1:
            self.reduce = nn.Conv3d(width, width, reduction + 1, stride=reduction, padding=reduction // 2, groups=width)
            self.reduce_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.value_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        source = x  # (b, n³, width)
        if self.reduce is not None:
            source = self.reduce_norm(tokens_from(self.reduce(grid_from(x, side))))  # (b, m³, width)
        key, value = self.key_value(source).chunk(2, dim=-1)  # each (b, m³, width)
        attended = F.scaled_dot_product_attention(self._split(self.query(x)), self._split(key), self._split(value))
        attended = attended.transpose(1, 2).flatten(2)  # (b, n³, width)

        reduced_side = round(source.shape[1] ** (1 / 3))
        upsampled = grid_from(value, reduced_side)  # (b, width, m, m, m)
        if reduced_side != side:
            upsampled = F.interpolate(upsampled, size=(side, side, side), mode="trilinear", align_corners=False)
        return self.project(attended + self.value_norm(tokens_from(upsampled)))

    def _split(self, tokens: Tensor) -> Tensor:
        """(batch, n, width) to (batch, heads, n, width / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block with an MLP of ratio 4, on tokens (b, side³, width)."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attention = Attention(width, heads, reduction)
        self.mlp_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, side: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), side)
        return x + self.mlp(self.mlp_norm(x))


class Stage(nn.Module):
    """One resolution: patch embedding, transformer blocks, and a pointwise convolution to the decoder's level."""

    def __init__(self, embed: Embedding, blocks: list[Block], width: int, level_width: int) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.to_level = nn.Conv3d(width, level_width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.embed(x)  # (b, side³, width)
        side = round(tokens.shape[1] ** (1 / 3))
        for block in self.blocks:
            tokens = block(tokens, side)
        features = grid_from(tokens, side)  # (b, width, side, side, side)
        return features, self.to_level(features)  # level: (b, level_width, side, side, side)


def fine_level(width: int) -> nn.Sequential:
    """The bundled network's level at 32³, (b, 1, 64, 64, 64) to (b, width, 32, 32, 32); coarser levels blur borders."""
    return nn.Sequential(
        nn.Conv3d(1, width, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv3d(width, width, 3, padding=1),
        nn.InstanceNorm3d(width),
        nn.LeakyReLU(0.2),
    )


class ImageEncoder(nn.Module):
    """ResT v2: a patch (b, 1, 64, 64, 64), 0..1, becomes four levels (b, level_widths[i], n, n, n), n = 16, 8, 4, 2.

    With a `fine_width` the patch itself and a level at 32³ come before them.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        previous = 1
        for index, width in enumerate(config.encoder_widths):
            halve = stem(config.stem_width, width) if index == 0 else nn.Conv3d(previous, width, 3, stride=2, padding=1)
            blocks = [
                Block(width, config.encoder_heads[index], config.key_reductions[index])
                for _ in range(config.encoder_blocks[index])
            ]
            self.stages.append(Stage(Embedding(halve, width), blocks, width, config.level_widths[index]))
            previous = width
        self.fine = fine_level(config.fine_width) if config.fine_width else None

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [] if self.fine is None else [image, self.fine(image)]
        features = image
        for stage in self.stages:
            features, level = stage(features)
            levels.append(level)
        return levels
