"""Base of three-dimensional systems whose mask depends on all clicks at once, not on earlier masks."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .serve import Settings, Spacing, System, Voxel


class AllAtOnce(System):
    """A system that computes each mask from all clicks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._hu = np.zeros((0, 0, 0))
        self._voxels: list[Voxel] = []
        self._positive: list[bool] = []

    @abstractmethod
    def prepare(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Precompute what all masks of a CT (z, y, x; HU) need."""

    @abstractmethod
    def segment(self, voxels: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """The mask (z, y, x) of the clicks (n, 3) as z, y, x and their signs (n,), bool."""

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Load a CT."""
        self._hu = hu
        self.reset()
        self.prepare(hu, spacing)

    def reset(self) -> None:
        """Remove all clicks."""
        self._voxels, self._positive = [], []

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Store a click for the next mask."""
        self._voxels.append(voxel)
        self._positive.append(positive)

    def mask(self, structure: str | None) -> np.ndarray:
        """The mask of all clicks, empty without a positive one."""
        if not any(self._positive):
            return np.zeros(self._hu.shape, bool)
        return self.segment(np.array(self._voxels), np.array(self._positive))
