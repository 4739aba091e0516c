"""Base of automatic systems: one label map of the whole CT, from which structures are selected by name."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .serve import Refusal, Settings, Spacing, System, Voxel

BTCV = (
    *("spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior vena cava", "portal vein and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland"),
)
"""The labels 1 to 13 of BTCV, in which most published weights of automatic systems for the abdomen are trained."""


class Automatic(System):
    """A system without clicks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._hu = np.zeros((0, 0, 0))
        self._spacing: Spacing = (1.0, 1.0, 1.0)
        self._labels: np.ndarray | None = None

    @abstractmethod
    def label_map(self, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
        """The labels 1, 2, ... in the order of `classes`, 0 elsewhere; (z, y, x)."""

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Load a CT; it is segmented at the first request for a structure."""
        self._hu, self._spacing, self._labels = hu, spacing, None

    def reset(self) -> None:
        """Nothing: there are no clicks to remove."""

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Refuse a click."""
        raise Refusal("it takes no clicks; ask for a structure by its name.")

    def mask(self, structure: str | None) -> np.ndarray:
        """The voxels that have the structure's label."""
        if structure is None:
            raise Refusal("it takes no clicks; ask for a structure by its name.")
        if self._labels is None:
            self._labels = self.label_map(self._hu, self._spacing)
        return self._labels == self.classes.index(structure) + 1
