"""SPADE: instance norm whose scale and shift are computed from the prompt maps (paper, "PSAP", Eq. 2).

Spatially adaptive normalization (Park et al., CVPR 2019) in three dimensions: the prompt maps M are turned into a scale
γ(M) and a shift β(M) for every voxel and channel, so that a click acts exactly where it was placed. The paper
multiplies by γ; the published network by 1 + γ, and so do we.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.layers import Conv

PROMPT_MAPS = 3
"""[previous mask, positive clicks, negative clicks]."""


class SpadeNorm(nn.Module):
    """Features (b, width, n, n, n) and prompt maps (b, maps, n, n, n) to normed features of the same shape."""

    def __init__(self, width: int, maps: int, hidden_width: int) -> None:
        super().__init__()
        self.shared = Conv(maps, hidden_width)
        self.scale_and_shift = Conv(hidden_width, 2 * width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        gamma, beta = self.scale_and_shift(F.relu(self.shared(prompts))).chunk(2, dim=1)  # each (b, width, n, n, n)
        return F.instance_norm(x) * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    """A residual block of two convolutions, each after a SPADE norm and a leaky ReLU."""

    def __init__(self, width: int, maps: int, hidden_width: int) -> None:
        super().__init__()
        self.norm0 = SpadeNorm(width, maps, hidden_width)
        self.conv0 = Conv(width, width)
        self.norm1 = SpadeNorm(width, maps, hidden_width)
        self.conv1 = Conv(width, width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        y = self.conv0(F.leaky_relu(self.norm0(x, prompts), 0.2))
        y = self.conv1(F.leaky_relu(self.norm1(y, prompts), 0.2))
        return x + y
