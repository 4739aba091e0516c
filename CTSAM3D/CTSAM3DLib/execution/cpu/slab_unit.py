"""One unit of a SPADE block with few channels: direct convolutions on slabs of planes, each computed by one thread.

A convolution needs the plane before a slab and the plane after it. Threads compute these planes twice rather than wait
for one another. Slabs are the same whatever the number of threads.

Volumes are (z, y, x, channel), contiguous float32 on the CPU; padded ones have planes of zeros before and after.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.mean_variance import MeanVariance
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import features_of, volumes_of
from CTSAM3DLib.model.spade import SpadeNorm

SLABS = 4
"""Slabs of a volume: more would compute more planes twice, fewer would leave threads idle."""


class SlabConv:
    """A convolution with a 3³ kernel on a slab."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight.detach()
        self._bias = None if bias is None else bias.detach()
        self.new_channels = len(weight)

    def __call__(self, slab: Tensor) -> Tensor:
        """Convolve a slab (z, y, x, channel), padded by zeros in y and x; the result lacks the first and last plane."""
        # `features_of` has the strides by which oneDNN recognises channels last; with others it would copy.
        features, once = features_of([slab]), (1, 1, 1)
        (convolved,) = volumes_of(
            torch.mkldnn_convolution(features, self._weight, self._bias, (0, 1, 1), once, once, 1)
        )
        return convolved


class SlabUnit:
    """SPADE norm, leaky ReLU and convolution on a grid of `side`³ voxels."""

    def __init__(
        self,
        name: str,
        norm: SpadeNorm,
        weight: Tensor,
        bias: Tensor | None,
        side: int,
        team: ThreadTeam,
        shared: BufferPool,
    ) -> None:
        self._name, self._side, self._team, self._shared = name, side, team, shared
        self._slabs = in_slabs(side, SLABS)
        self._shared_maps = SlabConv(norm.shared.weight, norm.shared.bias)
        self._scale_and_shift = SlabConv(norm.scale_and_shift.weight, scale_and_shift_bias(norm))
        self._conv = SlabConv(weight, bias)
        self._gamma_and_beta = torch.empty(0)

    def modulation_tasks(self, prompts: Tensor) -> list[list[partial[None]]]:
        """Tasks that compute γ and β, in one round."""
        side = self._side
        # The name holds unit and grid, since other units may compute their γ and β at the same time.
        name, width = f"scale and shift, {self._name}, {side}", self._scale_and_shift.new_channels
        self._gamma_and_beta = self._shared.take(name, side, side, side, width)
        maps = self._shared.padded_along_z("maps", side, 2, prompts.shape[1])
        maps[2:-2].copy_(volumes_of(prompts)[0])
        return [[partial(self._modulate, maps, slab) for slab in self._slabs]]

    def _modulate(self, maps: Tensor, slab: slice, _: BufferPool) -> None:
        hidden = self._shared_maps(maps[slab.start : slab.stop + 4]).clamp_(min=0)
        without_outside(hidden, slab, self._side)
        self._gamma_and_beta[slab] = self._scale_and_shift(hidden)

    def __call__(self, x: Tensor, statistics: MeanVariance, onto: Tensor | None, out: Tensor) -> None:
        scale = statistics.scale()
        self._team.map(partial(self._compute, x, scale, -statistics.mean * scale, onto, out), self._slabs)

    def _compute(
        self,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        onto: Tensor | None,
        out: Tensor,
        slab: slice,
        buffers: BufferPool,
    ) -> None:
        normed = buffers.take("normed", slab.stop - slab.start + 2, *x.shape[1:])
        planes = slice(max(slab.start - 1, 0), min(slab.stop + 1, self._side))
        here = normed[planes.start - slab.start + 1 :][: planes.stop - planes.start]
        gamma, beta = self._gamma_and_beta[planes].chunk(2, dim=-1)
        # By lines of voxels: an operation on few channels takes as long as on many.
        lines = x[planes].flatten(2)
        torch.addcmul(shift.repeat(self._side), lines, scale.repeat(self._side), out=here.flatten(2))
        torch.addcmul(beta, here, gamma, out=here)
        torch.nn.functional.leaky_relu_(here, 0.2)
        without_outside(normed, slab, self._side)
        convolved = self._conv(normed)
        if onto is None:
            out[slab] = convolved
        else:
            torch.add(onto[slab], convolved, out=out[slab])


def scale_and_shift_bias(norm: SpadeNorm) -> Tensor:
    """The bias with which the convolution for γ and β gives γ + 1 and β."""
    assert norm.scale_and_shift.bias is not None
    bias = norm.scale_and_shift.bias.detach().clone()
    bias[: len(bias) // 2] += 1
    return bias


def in_slabs(side: int, parts: int) -> list[slice]:
    """The `side` planes of a volume in `parts` slabs of about the same thickness, without empty ones."""
    borders = [side * part // parts for part in range(parts + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(borders) if first < last]


def without_outside(around: Tensor, slab: slice, side: int) -> None:
    """Zero the planes outside the volume of a slab that has one plane more at each end."""
    if slab.start == 0:
        around[0] = 0
    if slab.stop == side:
        around[-1] = 0
