"""A network whose 3D convolutions call oneDNN themselves.

For a single patch of few channels PyTorch takes a plain loop instead, on which encoding in the small network would
spend four fifths of its time.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from CTSAM3DLib.execution.cpu.moments import EPSILON, Moments
from CTSAM3DLib.execution.cpu.tiles import features_of, volumes_of

Part = TypeVar("Part", bound=nn.Module)


class OneDnnConv(nn.Module):
    """The convolution of an `nn.Conv3d` in float32 on the CPU, with that one's weights."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        assert not isinstance(convolution.padding, str)
        self._padding, self._stride = convolution.padding, convolution.stride
        self._dilation, self._groups = convolution.dilation, convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self._padding, self._stride, self._dilation, self._groups
        )


class LayoutKeepingNorm(nn.Module):
    """The instance norm of an `nn.InstanceNorm3d`; PyTorch's copies what has its channels last, and copies it back."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self._norm = norm

    def forward(self, x: Tensor) -> Tensor:
        normed = []
        for volume in volumes_of(x):
            moments = Moments.of(volume.flatten(0, 2))
            scale = moments.scale()
            if self._norm.affine:
                scale = scale * self._norm.weight
            centred = (volume - moments.mean).mul_(scale)
            normed.append(centred.add_(self._norm.bias) if self._norm.affine else centred)
        return features_of(normed)


def by_onednn(network: Part) -> Part:
    """A copy of a network that shares its weights; only its 3D convolutions and instance norms are others."""
    twin = copy.copy(network)
    twin._modules = {name: None if part is None else _replaced(part) for name, part in network._modules.items()}
    return twin


def _replaced(part: nn.Module) -> nn.Module:
    if isinstance(part, nn.Conv3d):
        return OneDnnConv(part)
    if isinstance(part, nn.InstanceNorm3d) and part.eps == EPSILON and not part.track_running_stats:
        return LayoutKeepingNorm(part)
    return by_onednn(part)
