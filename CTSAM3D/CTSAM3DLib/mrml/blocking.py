"""Predictions for scripts: a call returns when the mask is in its segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from CTSAM3DLib.cancel import CancelEvent
from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.interaction.prediction_worker import Backend, OpenedVolume
from CTSAM3DLib.mrml.frames import output_grid
from CTSAM3DLib.mrml.segmenting import Target, Written, check_target, write_nothing, write_result
from CTSAM3DLib.mrml.volumes import volume_in_segmentation, volume_key
from CTSAM3DLib.mrml.writing import SegmentWriter
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DLib.segmentation.result import Result


class BlockingPredictor:
    """Segments with one backend, on the thread that owns the scene. The last volume stays open."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._opened: tuple[Hashable, OpenedVolume] | None = None

    def predict(
        self,
        target: Target,
        clicks: Sequence[Click],
        writer: SegmentWriter,
        reach: Reach = "structure",
        keep_radius_mm: float | None = None,
        progress: Callable[[Result], None] | None = None,
        cancel: CancelEvent | None = None,
    ) -> Written:
        """Write the mask of these clicks (LPS of the local frame); see `SegmentPredictor.predict`.

        Raises CTSAM3DError, and Cancelled among them, with nothing changed.
        """
        check_target(target, writer)
        if not any(click.positive for click in clicks):
            return write_nothing(target, writer, clicks)
        reference = writer.reference_image()
        key = volume_key(target.volume_node, target.segmentation_node, reference)
        volume = volume_in_segmentation(target.volume_node, target.segmentation_node, reference)
        checked = check_clicks(clicks, volume.geometry)
        if self._opened is None or self._opened[0] != key:
            self._opened = key, self.backend.open(volume)
        result = self._opened[1].segment(checked, reach, progress, cancel)
        grid = output_grid(reference, volume.geometry)
        return write_result(target, writer, dataclasses.replace(result, geometry=grid.geometry), grid, keep_radius_mm)
