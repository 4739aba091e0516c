"""The segments of a scene as a `ClickEditor` sees them: clicks in tags, masks on their way from a driver."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.mrml.clicks import clicks_of, drop_pending_clicks, mask_clicks, pending_clicks, set_pending_clicks
from CTSAM3DLib.mrml.prediction_driver import PredictionDriver
from CTSAM3DLib.mrml.segmenting import Target


class SceneSegments:
    """The `ClickedSegments` of a scene; they are called by their `Target`."""

    def __init__(self, driver: PredictionDriver) -> None:
        self._driver = driver

    def is_there(self, target: Target) -> bool:
        """Whether the segment, its segmentation and the volume are in the scene."""
        return target.segment() is not None

    def clicks(self, target: Target) -> list[Click]:
        """The clicks that the user sees, LPS in the segmentation's local frame. Raises ClickError."""
        return clicks_of(_segment(target))

    def mask_clicks(self, target: Target) -> list[Click]:
        """The clicks that the mask was made of. Raises ClickError."""
        return mask_clicks(_segment(target))

    def is_pending(self, target: Target) -> bool:
        """Whether the clicks that the user sees have no mask yet. Raises ClickError."""
        return pending_clicks(_segment(target)) is not None

    def keep(self, target: Target, clicks: Sequence[Click]) -> None:
        """Let these clicks wait for their mask."""
        set_pending_clicks(_segment(target), clicks)

    def drop(self, target: Target) -> None:
        """Forget clicks that wait for their mask, and stop what was asked for them."""
        self._driver.cancel(target)
        segment = target.segment()
        if segment is not None:
            drop_pending_clicks(segment)


def _segment(target: Target) -> slicer.vtkSegment:
    segment = target.segment()
    if segment is None:
        raise CTSAM3DError("The segment or its volume is no longer there; choose a segment and a source volume.")
    return segment
