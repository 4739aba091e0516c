"""The fast form of the decoders' upscalings and heads on a CPU; it differs from the plain form by rounding alone.

Voxels are processed in batches that fit into a core's own cache, and only the mask's channel of the head is computed.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.slab_unit import SLABS, SlabConv, in_slabs, without_outside
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import features_of, inside, volumes_of
from CTSAM3DLib.model.layers import Upscale
from CTSAM3DLib.model.pixel_shuffle import pixel_unshuffle
from CTSAM3DLib.model.small.guided_decoder import FineHead
from CTSAM3DLib.model.spade import PROMPT_MAPS

UPSCALED = 512
"""Voxels upscaled at a time; their output fits into a core's own cache."""


class FastUpscale:
    """The fast form of `Upscale`: one matrix product makes eight voxels of each, then layer norm and GELU.

    The matrix also subtracts the mean over channels, so that only the scale of layer norm is left to compute.
    """

    def __init__(self, upscale: Upscale, team: ThreadTeam, shared: BufferPool) -> None:
        convolution, norm = upscale[0], upscale[1]
        assert isinstance(convolution, nn.ConvTranspose3d)
        assert isinstance(norm, nn.LayerNorm)
        assert convolution.bias is not None
        self.width = convolution.out_channels
        self._epsilon = norm.eps
        self._gain, self._shift = norm.weight.detach().repeat(8), norm.bias.detach().repeat(8)
        # (channel, new channel, z, y, x) to (channel, z, y, x and new channel)
        matrix = convolution.weight.detach().double().permute(0, 2, 3, 4, 1)
        bias = convolution.bias.detach().double()
        self._matrix = (matrix - matrix.mean(dim=-1, keepdim=True)).flatten(1).float()
        self._bias = (bias - bias.mean()).repeat(8).float()
        self._team, self._shared = team, shared

    def __call__(self, features: Tensor) -> Tensor:
        """Features (1, channel, n, n, n) to (1, new channel, 2n, 2n, 2n)."""
        (x,) = volumes_of(features)
        side = len(x)
        out = self._shared.take("upscaled", side, 2, side, 2, side, 2, self.width)

        def upscale(slab: slice, buffers: BufferPool) -> None:
            for plane, lines in product(range(slab.start, slab.stop), lines_of(side)):
                eighths = self.upscaled(x[plane, lines], buffers).view(-1, side, 2, 2, 2, self.width)
                out[plane, :, lines].copy_(eighths.permute(2, 0, 3, 1, 4, 5))

        self._team.map(upscale, in_slabs(side, self._team.parts_for(out.numel())))
        return features_of([out.view(2 * side, 2 * side, 2 * side, self.width)])

    def upscaled(self, voxels: Tensor, buffers: BufferPool) -> Tensor:
        """Voxels (..., channel) to their eighths (voxel, (z, y, x, new channel)), in memory of `buffers`."""
        rows = voxels.reshape(-1, voxels.shape[-1])
        upscaled = buffers.take("upscaled", len(rows), self._matrix.shape[1])
        torch.addmm(self._bias, rows, self._matrix, out=upscaled)
        eighths = upscaled.view(-1, self.width)
        length = torch.linalg.vector_norm(eighths, dim=1, keepdim=True)
        eighths.mul_((length.square_().div_(self.width).add_(self._epsilon)).rsqrt_())
        torch.addcmul(self._shift, upscaled, self._gain, out=upscaled)
        torch.ops.aten.gelu_(upscaled)
        return upscaled


class FastHead:
    """The last upscaling, the mask's channel of the head, and the channel means for the quality head.

    One matrix product computes what the eight upscaled voxels of a voxel contribute to the 4³ logits around them.
    """

    def __init__(self, upscale: FastUpscale, head: nn.Conv3d, team: ThreadTeam) -> None:
        self._upscale = upscale
        self._matrix = matrix_of_eighths(head.weight.detach()[0])
        self._bias = 0.0 if head.bias is None else head.bias.detach()[0].item()
        self._team = team

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (32, 32, 32, channel) to mask logits (64, 64, 64) and the mean of each channel at 64³."""
        side = len(x)
        parts = self._team.map(partial(self._of_slab, x), in_slabs(side, SLABS))
        cubes = torch.zeros(side + 1, side + 1, side + 1, 8)
        total = torch.zeros(self._upscale.width)
        for slab, (contributions, sums) in zip(in_slabs(side, SLABS), parts, strict=True):
            cubes[slab.start : slab.stop + 1] += contributions
            total += sums
        padded = cubes.view(side + 1, side + 1, side + 1, 2, 2, 2).permute(0, 3, 1, 4, 2, 5)
        logits = inside(padded.reshape((2 * side + 2,) * 3)) + self._bias
        return logits, total / (2 * side) ** 3

    def _of_slab(self, x: Tensor, slab: slice, buffers: BufferPool) -> tuple[Tensor, Tensor]:
        """A slab's contributions to cubes of eight logits, shifted by half a voxel of 32³, and its channels' sums."""
        side = x.shape[1]
        contributions = torch.zeros(slab.stop - slab.start + 1, side + 1, side + 1, 8)
        total = torch.zeros(self._upscale.width)
        shares = buffers.take("shares", side, side, 2, 2, 2, 8)
        for plane in range(slab.start, slab.stop):
            for lines in lines_of(side):
                upscaled = self._upscale.upscaled(x[plane, lines], buffers)
                torch.mm(upscaled, self._matrix, out=shares[lines].view(len(upscaled), -1))
                total += upscaled.view(-1, self._upscale.width).sum(dim=0)
            for dz, dy, dx in product((0, 1), repeat=3):
                contributions[plane - slab.start + dz, dy : dy + side, dx : dx + side] += shares[:, :, dz, dy, dx]
        return contributions, total


class FastFineHead:
    """The fast form of `FineHead` on slabs of one thread each, skipping the similarity maps of empty prompts."""

    def __init__(self, head: FineHead, team: ThreadTeam) -> None:
        self._head, self._team = head, team
        self._to_mask = SlabConv(head.to_mask.weight, head.to_mask.bias)
        self._convs: dict[tuple[int, ...], SlabConv] = {}
        voxels = torch.arange(64**3, dtype=torch.int32).view(1, 1, 64, 64, 64)
        (self._eighths,) = volumes_of(pixel_unshuffle(voxels))

    def __call__(self, x: Tensor, image: Tensor, similarity: Tensor) -> Tensor:
        """Features (32, 32, 32, channel), image (1, 64³) and similarity (3, 64³) to mask logits (64, 64, 64)."""
        side, width = len(x), x.shape[-1]
        # The similarity map of an empty prompt is 0 everywhere, that of any other prompt nowhere.
        present = tuple(prompt for prompt in range(PROMPT_MAPS) if similarity[prompt, 0, 0, 0] > 0)
        conv = self._conv_of(width, present)
        fine = [image[0], *(similarity[prompt] for prompt in present)]
        logits = torch.empty(side, 2, side, 2, side, 2)

        def predict(slab: slice, buffers: BufferPool) -> None:
            shown = slice(max(slab.start - 2, 0), min(slab.stop + 2, side))
            voxels = self._eighths[shown]
            eighths = buffers.take("eighths", *voxels.shape)
            joined = buffers.take("joined", slab.stop - slab.start + 4, side, side, width + 8 * len(fine))
            before, inner, after = joined.split((shown.start - slab.start + 2, len(voxels), slab.stop + 2 - shown.stop))
            before.zero_()
            after.zero_()
            inner[..., :width] = x[shown]
            for index, finer in enumerate(fine):
                torch.index_select(finer.flatten(), 0, voxels.flatten(), out=eighths.view(-1))
                inner[..., width + 8 * index : width + 8 * (index + 1)] = eighths
            hidden = F.leaky_relu_(conv(joined), 0.2)
            without_outside(hidden, slab, side)
            logits[slab] = self._to_mask(hidden).unflatten(-1, (2, 2, 2)).permute(0, 3, 1, 4, 2, 5)

        self._team.map(predict, in_slabs(side, SLABS))
        return logits.view(2 * side, 2 * side, 2 * side)

    def _conv_of(self, width: int, present: tuple[int, ...]) -> SlabConv:
        """The convolution restricted to the channels of features, image and the similarity to these prompts."""
        if present not in self._convs:
            image, *similarities = torch.arange(width, self._head.conv.in_channels).split(8)
            channels = torch.cat([torch.arange(width), image, *(similarities[prompt] for prompt in present)])
            self._convs[present] = SlabConv(self._head.conv.weight[:, channels], self._head.conv.bias)
        return self._convs[present]


def matrix_of_eighths(taps: Tensor) -> Tensor:
    """The matrix by which a voxel's eighths contribute to eight cubes of eight voxels of the head's convolution.

    `taps` are (channel, 3, 3, 3). The cubes are shifted by one voxel against the eighths. The result has rows
    (z, y, x, channel) and 64 columns (cube, voxel).
    """
    one_axis = torch.zeros(2, 2, 2, 3)  # eighth, cube, voxel of the cube, tap
    for eighth, cube, voxel in product((0, 1), repeat=3):
        tap = eighth + 2 - (2 * cube + voxel)
        if 0 <= tap < 3:
            one_axis[eighth, cube, voxel, tap] = 1
    return torch.einsum("adgu,behv,cfiw,nuvw->abcndefghi", one_axis, one_axis, one_axis, taps).reshape(-1, 64)


def lines_of(side: int) -> list[slice]:
    """The lines of a plane of `side`² voxels in groups of about `UPSCALED` voxels."""
    step = max(1, UPSCALED // side)
    return [slice(line, min(line + step, side)) for line in range(0, side, step)]
