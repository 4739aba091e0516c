"""SPADE: instance norm whose scale and shift are computed from the prompt maps (paper, "PSAP", Eq. 2).

Spatially adaptive normalization (Park et al., CVPR 2019) in three dimensions. Convolutions turn the prompt maps M into
two modulation maps, a scale γ(M) and a shift β(M) for every voxel and channel, so a click acts exactly where it was
placed. The paper multiplies by γ; the published network multiplies by 1 + γ, and so does this one.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.layers import Conv

PROMPT_MAPS = 3
"""[previous mask, positive clicks, negative clicks]."""


class SpadeNorm(nn.Module):
    """SPADE norm: features (b, width, n, n, n) modulated by prompt maps (b, maps, n, n, n); the shape is kept."""

    def __init__(self, width: int, maps: int, hidden_width: int) -> None:
        super().__init__()
        self.shared = Conv(maps, hidden_width)
        self.scale_and_shift = Conv(hidden_width, 2 * width)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        hidden = F.relu(self.shared(prompts))  # (b, hidden_width, n, n, n)
        gamma, beta = self.scale_and_shift(hidden).chunk(2, dim=1)  # each (b, width, n, n, n)
        return F.instance_norm(x) * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    """SPADE residual block: twice SPADE norm, leaky ReLU and convolution, added to the input (b, width, n, n, n)."""

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
