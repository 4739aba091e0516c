"""A comparison system as a method of the evaluation: the CT is reoriented as systems expect, clicks become voxels.

The worker keeps one volume and its clicks; what it is sent is only the difference to what it has. Its mask is taken to
depend on the volume and the ordered clicks alone, so whenever the order is another one all are sent again.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.cancel import CancelEvent
from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Volume
from training.anatomy import canonical
from training.evaluation.baselines import BaselineAnswer
from training.evaluation.comparisons.process import Worker
from training.evaluation.comparisons.prompting import Prompting
from training.evaluation.comparisons.systems import System
from training.evaluation.comparisons.workers.serve import FRESH

VoxelClick = tuple[tuple[int, int, int], bool]
"""Voxel (z, y, x) of the reoriented CT, and whether the click is positive."""


@dataclass(frozen=True)
class SystemSettings:
    """The user's installation of a system; the fields are those of `workers.serve.Settings`."""

    python: str = sys.executable
    """The Python executable of its environment."""
    clone: str | None = None
    device: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    silence_s: float = 900.0
    """Seconds without a message after which the process is ended."""

    def __post_init__(self) -> None:
        # Workers have another current folder; a link to an environment's Python must stay one.
        object.__setattr__(self, "python", os.path.abspath(shutil.which(self.python) or self.python))
        object.__setattr__(self, "clone", self.clone and os.path.abspath(self.clone))


class Comparison:
    """A comparison system in its own process. Safe across threads, whose calls wait for one another.

    Raises ComparisonError where that cannot be started.
    """

    def __init__(self, system: System, weights: str | None, settings: SystemSettings | None = None) -> None:
        self.name = system.name
        self.prompting = system.prompting
        self._system = system
        self._settings = settings or SystemSettings()
        self._weights = weights if weights in (None, FRESH) else os.path.abspath(weights)
        self._lock = threading.Lock()
        self._held: _TurnedCT | None = None
        self._sent: list[VoxelClick] = []
        self._worker, of_weights, self._classes = self._started()
        choices = [f"{key}={value}" for key, value in sorted(self._settings.options) if key != "trust"]
        self.run = "-".join([self.name, *([of_weights] if of_weights else []), *choices])

    def open(self, volume: Volume) -> OpenedComparison:
        """The CT, ready to be clicked. Raises VolumeError if it cannot be a CT in Hounsfield units."""
        volume.check_ct()
        return OpenedComparison(self, _TurnedCT(volume), volume.geometry, self.prompting)

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def knows(self, structure: str) -> bool:
        """Whether it segments structures by name."""
        return structure in self._classes

    def mask(
        self, ct: _TurnedCT, clicks: Sequence[VoxelClick], structure: str | None, cancel: CancelEvent | None = None
    ) -> NDArray[np.uint8]:
        """The mask, 0 or 1, on the reoriented CT. Raises ComparisonError and Cancelled."""
        wanted = None if structure is None else self._classes[structure]
        with self._lock:
            try:
                self._hold(ct, cancel)
                if self._sent != list(clicks[: len(self._sent)]):
                    self._worker.ask("reset", cancel=cancel)
                    self._sent = []
                for voxel, positive in clicks[len(self._sent) :]:
                    self._worker.ask("click", voxel=voxel, positive=positive, cancel=cancel)
                    self._sent.append((voxel, positive))
                answer = self._worker.ask("mask", structure=wanted, cancel=cancel)
                return np.asarray(self._worker.read(answer["file"]), np.uint8)
            except BaseException:  # whatever it was, the worker may hold half of what it was sent
                self._held = None
                raise

    def _hold(self, ct: _TurnedCT, cancel: CancelEvent | None) -> None:
        """Send the CT to the worker, which is restarted if it has ended."""
        if self._held is ct and self._worker.running:
            return
        if not self._worker.running:
            self._worker.close()
            self._worker, _, self._classes = self._started(cancel)
        self._worker.write("volume.npy", ct.hu)
        self._worker.ask("volume", file="volume.npy", spacing=ct.geometry.spacing[::-1], cancel=cancel)
        self._held, self._sent = ct, []

    def _started(self, cancel: CancelEvent | None = None) -> tuple[Worker, str, dict[str, str]]:
        """A ready worker, the identifier of its weights, and its classes by our names."""
        settings = self._settings
        worker = Worker(self._system.title, self._system.module, settings.python, settings.silence_s)
        try:
            ready = worker.ask(
                "start",
                folder=str(worker.folder),
                weights=self._weights,
                clone=settings.clone,
                device=settings.device,
                options=dict(settings.options),
                cancel=cancel,
            )
        except BaseException:
            worker.close()
            raise
        return worker, ready["weights"], {canonical(name): name for name in ready["classes"]}


class _TurnedCT:
    """A CT with axes permuted and flipped so that its array (z, y, x) points to head, back and left, not resampled."""

    def __init__(self, ct: Volume) -> None:
        turn = sitk.DICOMOrientImageFilter()
        turn.SetDesiredCoordinateOrientation("LPS")
        image = turn.Execute(as_image(np.maximum(ct.array, AIR_HU), ct.geometry))  # padding is air to them
        self._code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(ct.geometry.direction)
        self.slice_axis = 2 - turn.GetPermuteOrder()[2]
        self.geometry = Geometry.of_image(image)
        self.hu: NDArray[np.generic] = sitk.GetArrayFromImage(image)

    def voxel(self, click: Click) -> VoxelClick:
        """The nearest voxel to a click."""
        nearest = np.rint(self.geometry.to_ijk(click.position)[::-1]).astype(int)
        z, y, x = (int(np.clip(n, 0, size - 1)) for n, size in zip(nearest, self.hu.shape, strict=True))
        return (z, y, x), click.positive

    def turned_back(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask (z, y, x) in the orientation of the CT's own array."""
        image = sitk.DICOMOrient(as_image(mask, self.geometry), self._code)
        return np.asarray(sitk.GetArrayFromImage(image), np.uint8)


@dataclass(frozen=True)
class OpenedComparison:
    """A CT and the system that segments it."""

    comparison: Comparison
    ct: _TurnedCT
    geometry: Geometry
    prompting: Prompting
    wanted: str | None = None

    @property
    def slice_axis(self) -> int:
        """The axis of the CT's array (z, y, x) along which axial slices follow one another."""
        return self.ct.slice_axis

    def structure(self, name: str) -> OpenedComparison | None:
        """The CT with this structure as the target; None where an automatic system has no label for it."""
        if self.prompting != "none":
            return self  # the clicks say it
        return replace(self, wanted=name) if self.comparison.knows(name) else None

    def segment(self, clicks: Sequence[Click], cancel: CancelEvent | None = None) -> BaselineAnswer:
        """The mask of these clicks, or of the target structure. Raises ClickError, ComparisonError and Cancelled."""
        if self.prompting == "none":
            mask = self.comparison.mask(self.ct, [], self.wanted, cancel)
            return BaselineAnswer((), Volume(self.ct.turned_back(mask), self.geometry))
        check_clicks(clicks, self.geometry)
        mask = self.comparison.mask(self.ct, [self.ct.voxel(click) for click in clicks], None, cancel)
        return BaselineAnswer(tuple(clicks), Volume(self.ct.turned_back(mask), self.geometry))
