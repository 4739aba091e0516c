"""Baselines: click segmentation without weights, and their common interface as evaluation methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume


class Baseline(ABC):
    """A method whose mask depends on the CT and the clicks alone."""

    name: str

    @property
    def run(self) -> str:
        """Its name alone, since it has no weights."""
        return self.name

    def open(self, volume: Volume) -> OpenedBaseline:
        """The CT, ready to be clicked. Raises VolumeError if it cannot be a CT in Hounsfield units."""
        volume.check_ct()
        return OpenedBaseline(self, volume)

    @abstractmethod
    def mask(self, ct: Volume, clicks: Sequence[Click]) -> Volume:
        """The mask, 0 or 1 (z, y, x), on the CT's grid; at least one click is positive, all lie in the CT."""


@dataclass(frozen=True)
class BaselineAnswer:
    """A mask and its clicks; a baseline has neither patches nor an estimate of its quality."""

    clicks: tuple[Click, ...]
    mask: Volume
    patches: None = None
    quality: None = None


@dataclass(frozen=True)
class OpenedBaseline:
    """A CT and the baseline that segments it."""

    baseline: Baseline
    ct: Volume

    @property
    def geometry(self) -> Geometry:
        """The CT's own grid."""
        return self.ct.geometry

    def segment(self, clicks: Sequence[Click]) -> BaselineAnswer:
        """The mask of these clicks. Raises ClickError."""
        check_clicks(clicks, self.geometry)
        return BaselineAnswer(tuple(clicks), self.baseline.mask(self.ct, clicks))
