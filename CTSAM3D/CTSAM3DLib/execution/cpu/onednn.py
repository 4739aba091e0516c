"""A copy of a network whose 3D convolutions call oneDNN directly.

For a single patch of few channels PyTorch itself picks a plain loop, which would take four fifths of the time of
encoding in the small network.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from CTSAM3DLib.execution.cpu.mean_variance import EPSILON, MeanVariance
from CTSAM3DLib.execution.cpu.tiles import features_of, volumes_of

Part = TypeVar("Part", bound=nn.Module)


class OneDnnConv(nn.Module):
    """An `nn.Conv3d` in float32 on the CPU, computed by oneDNN with the same weights."""

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
    """An `nn.InstanceNorm3d` that keeps channels last; PyTorch's would copy to channels first and back."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self._norm = norm

    def forward(self, x: Tensor) -> Tensor:
        normed = []
        for volume in volumes_of(x):
            statistics = MeanVariance.of(volume.flatten(0, 2))
            scale = statistics.scale()
            if self._norm.affine:
                scale = scale * self._norm.weight
            centred = (volume - statistics.mean).mul_(scale)
            normed.append(centred.add_(self._norm.bias) if self._norm.affine else centred)
        return features_of(normed)


def by_onednn(network: Part) -> Part:
    """A copy of a network that shares its weights, with 3D convolutions and instance norms replaced."""
    twin = copy.copy(network)
    twin._modules = {name: None if part is None else _replaced(part) for name, part in network._modules.items()}
    return twin


def _replaced(part: nn.Module) -> nn.Module:
    if isinstance(part, nn.Conv3d):
        return OneDnnConv(part)
    if isinstance(part, nn.InstanceNorm3d) and part.eps == EPSILON and not part.track_running_stats:
        return LayoutKeepingNorm(part)
    return by_onednn(part)
