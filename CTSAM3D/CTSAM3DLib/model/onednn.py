"""A network whose 3D convolutions call oneDNN themselves.

For a single patch of few channels PyTorch takes a plain loop instead, on which encoding in the small network would
spend four fifths of its time.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

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


def by_onednn(network: Part) -> Part:
    """A copy of a network that shares its weights; only its 3D convolutions are others."""
    twin = copy.copy(network)
    twin._modules = {
        name: OneDnnConv(part) if isinstance(part, nn.Conv3d) else by_onednn(part)
        for name, part in network._modules.items()
        if part is not None
    } | {name: None for name, part in network._modules.items() if part is None}
    return twin
