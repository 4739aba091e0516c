"""What three-dimensional systems share that answer all clicks at once, whatever they answered before."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .serve import Settings, Spacing, System, Voxel


class AllAtOnce(System):
    """A system whose mask is made from all clicks anew."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._hu = np.zeros((0, 0, 0))
        self._voxels: list[Voxel] = []
        self._positive: list[bool] = []

    @abstractmethod
    def prepare(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Keep what all masks of a CT (z, y, x; HU) need."""

    @abstractmethod
    def segment(self, voxels: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """The mask (z, y, x) of the clicks (n, 3) as z, y, x and their signs (n,), bool."""

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Take a CT."""
        self._hu = hu
        self.reset()
        self.prepare(hu, spacing)

    def reset(self) -> None:
        """Take all clicks back."""
        self._voxels, self._positive = [], []

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Keep a click for when the mask is asked for."""
        self._voxels.append(voxel)
        self._positive.append(positive)

    def mask(self, structure: str | None) -> np.ndarray:
        """The mask of all clicks, empty without a positive one."""
        if not any(self._positive):
            return np.zeros(self._hu.shape, bool)
        return self.segment(np.array(self._voxels), np.array(self._positive))
