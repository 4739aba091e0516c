"""One unit of a SPADE block on few voxels, where reading the weights is most of the work: convolution by im2col.

The 3³ surroundings of each voxel become one row, and a convolution becomes one matrix product. Threads take blocks of
columns of a large matrix; the blocks are the same whatever the number of threads.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.mean_variance import MeanVariance
from CTSAM3DLib.execution.cpu.thread_team import MIN_SHARED, ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import cube_in, volumes_of
from CTSAM3DLib.model.spade import SpadeNorm

PARTS = 4
"""Blocks of columns of a large matrix."""


class DenseUnit:
    """SPADE norm, leaky ReLU and convolution on a grid of `side`³ voxels."""

    def __init__(self, norm: SpadeNorm, weight: Tensor, bias: Tensor | None, side: int, team: ThreadTeam) -> None:
        # γ and β of a block's two units are computed in parallel, each by one thread.
        self._shared_maps = DenseConv(norm.shared.weight, norm.shared.bias, side, team)
        self._scale_and_shift = DenseConv(norm.scale_and_shift.weight, norm.scale_and_shift.bias, side, team)
        self._conv = DenseConv(weight, bias, side, team, PARTS if weight.numel() >= MIN_SHARED else 1)
        self._gamma_and_beta, self._prompts = torch.empty(0), torch.empty(0)

    def modulation_tasks(self, prompts: Tensor) -> list[list[partial[None]]]:
        """Tasks that compute γ and β, in one round; none if the prompts are those of the call before."""
        return [] if torch.equal(prompts, self._prompts) else [[partial(self._modulate, prompts)]]

    def _modulate(self, prompts: Tensor, _: BufferPool) -> None:
        (maps,) = volumes_of(prompts)
        self._gamma_and_beta = self._scale_and_shift(self._shared_maps(maps).clamp_(min=0))
        self._prompts = prompts

    def __call__(self, x: Tensor, statistics: MeanVariance, onto: Tensor | None, out: Tensor) -> None:
        gamma, beta = self._gamma_and_beta.chunk(2, dim=-1)
        normed = (x - statistics.mean).mul_(statistics.scale())
        normed = F.leaky_relu_(torch.addcmul(normed, normed, gamma).add_(beta), 0.2)
        convolved = self._conv(normed)
        out.copy_(convolved if onto is None else onto + convolved)


class DenseConv:
    """A convolution with a 3³ kernel on a grid of `side`³ voxels by matrix products, shared out by columns."""

    def __init__(self, weight: Tensor, bias: Tensor | None, side: int, team: ThreadTeam, parts: int = 1) -> None:
        self._side, self._team = side, team
        matrix = weight.detach().permute(2, 3, 4, 1, 0).flatten(0, 3)
        self._columns = [columns.contiguous() for columns in matrix.tensor_split(parts, dim=1)]
        self._bias = torch.zeros(len(weight)) if bias is None else bias.detach()
        self._around = (cube_in(side + 2, side)[:, None] + cube_in(side + 2, 3)).flatten()

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve a volume (side, side, side, channel)."""
        padded = F.pad(x, (0, 0, 1, 1, 1, 1, 1, 1)).view(-1, x.shape[-1])
        rows = padded[self._around].view(self._side**3, -1)

        products = self._team.map(lambda columns, _: rows @ columns, self._columns)
        return torch.cat(products, dim=1).add_(self._bias).view(*x.shape[:3], -1)
