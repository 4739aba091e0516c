"""A buffer pool: memory for intermediates that is reused from call to call."""

from __future__ import annotations

import torch
from torch import Tensor


class BufferPool:
    """Reusable float32 buffers by name; new memory pages for each intermediate would cost more than computing it."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}
        self._padded: dict[tuple[object, ...], Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor of this shape; it overwrites the tensor taken under the same name before."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size)
        return flat[:size].view(shape)

    def padded(self, name: str, side: int, channels: int) -> Tensor:
        """(side + 2, side + 2, side + 2, channels) with a border of zeros; callers write to the inside alone."""
        return self._zeros(name, side + 2, side + 2, side + 2, channels)

    def padded_across_z(self, name: str, planes: int, side: int, channels: int) -> Tensor:
        """(planes, side + 2, side + 2, channels), each plane with a border of zeros."""
        return self._zeros(name, planes, side + 2, side + 2, channels)

    def padded_along_z(self, name: str, side: int, border: int, channels: int) -> Tensor:
        """(side + 2 * border, side, side, channels) with `border` planes of zeros at both ends of z."""
        return self._zeros(name, side + 2 * border, side, side, channels)

    def _zeros(self, name: str, *shape: int) -> Tensor:
        key = (name, *shape)
        if key not in self._padded:
            self._padded[key] = torch.zeros(shape)
        return self._padded[key]
