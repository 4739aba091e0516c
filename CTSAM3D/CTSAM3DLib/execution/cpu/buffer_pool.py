"""Memory for intermediates that is used again and again."""

from __future__ import annotations

import torch
from torch import Tensor


class BufferPool:
    """Memory for intermediates; fresh pages for each of them would cost more than the sums in it."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}
        self._padded: dict[tuple[object, ...], Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; whatever was taken under the same name before is overwritten."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size)
        return flat[:size].view(shape)

    def padded(self, name: str, side: int, channels: int) -> Tensor:
        """A volume of `side`³ voxels within a border of zeros, which nobody writes to; its inside is as it was left."""
        return self._zeros(name, side + 2, side + 2, side + 2, channels)

    def padded_across_z(self, name: str, planes: int, side: int, channels: int) -> Tensor:
        """So many planes, each of `side`² voxels within a border of zeros."""
        return self._zeros(name, planes, side + 2, side + 2, channels)

    def padded_along_z(self, name: str, side: int, border: int, channels: int) -> Tensor:
        """The same with a border of so many planes along z only."""
        return self._zeros(name, side + 2 * border, side, side, channels)

    def _zeros(self, name: str, *shape: int) -> Tensor:
        key = (name, *shape)
        if key not in self._padded:
            self._padded[key] = torch.zeros(shape)
        return self._padded[key]
