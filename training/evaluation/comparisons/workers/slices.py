"""Base of two-dimensional systems: the CT as 8-bit axial slices in an HU window, and the clicks of each slice.

A slice without a click has an empty mask. A slice is encoded once, when it is first clicked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .serve import Refusal, Settings, Spacing, System, Voxel, numbers


def window_of(text: str) -> tuple[float, float]:
    """Level and width in HU of a text such as "40,400". Raises Refusal."""
    level, width = numbers(text, 2, "a window")
    if width <= 0:
        raise Refusal(f'"{text}" is not a window, since its width is not positive; write one like window=40,400.')
    return level, width


def windowed(hu: np.ndarray, level: float, width: float) -> np.ndarray:
    """HU clipped to the window and scaled to 0..255; uint8."""
    share = (hu.astype(np.float32) - (level - width / 2)) / width
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


class SliceWise(System):
    """A system that segments one slice by its clicks, each click starting from the mask before it."""

    OPTIONS: ClassVar[Mapping[str, str]] = {"window": "40,400"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._window = window_of(self.option["window"])
        self._hu = np.zeros((0, 0, 0))
        self.reset()
        self._embeddings: dict[int, Any] = {}

    @abstractmethod
    def embed(self, image: np.ndarray) -> Any:
        """Encode a slice (y, x; uint8) once for all its clicks."""

    @abstractmethod
    def segment(
        self, embedding: Any, points: np.ndarray, positive: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, Any]:
        """The mask (y, x) of a slice, and what the next click in it gets as `previous`, which is None at first.

        `points` are all clicks so far (n, 2) as x, y; `positive` their signs (n,), bool.
        """

    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Load a CT."""
        self._hu = hu
        self._embeddings = {}
        self.reset()

    def reset(self) -> None:
        """Remove all clicks."""
        self._mask = np.zeros(self._hu.shape, bool)
        self._clicks: dict[int, list[tuple[tuple[int, int], bool]]] = {}
        self._answered: dict[int, tuple[int, Any]] = {}

    def click(self, voxel: Voxel, positive: bool) -> None:
        """Store a click for the mask of its slice."""
        z, y, x = voxel
        self._clicks.setdefault(z, []).append(((x, y), positive))

    def mask(self, structure: str | None) -> np.ndarray:
        """The masks of all slices with clicks."""
        for number, (z, clicks) in enumerate(self._clicks.items()):
            self.progress(number / len(self._clicks))
            self._segment_slice(z, clicks)
        return self._mask

    def _segment_slice(self, z: int, clicks: list[tuple[tuple[int, int], bool]]) -> None:
        answered, previous = self._answered.get(z, (0, None))
        if answered < len(clicks) and z not in self._embeddings:
            self._embeddings[z] = self.embed(windowed(self._hu[z], *self._window))
        points = np.array([point for point, _ in clicks], np.float32)
        positive = np.array([sign for _, sign in clicks])
        for count in range(answered + 1, len(clicks) + 1):
            self._mask[z], previous = self.segment(self._embeddings[z], points[:count], positive[:count], previous)
        self._answered[z] = len(clicks), previous
