"""Predictions in an application that must never wait: asked here, looked for from a timer.

A worker, with what it has opened and computed, is kept as long as the user stays with one backend and model. A
predictor, which knows what was asked, lives as long as the effect is active.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import qt
import slicer

from CTSAM3DLib.mrml.predictor import Failed, Growing, SegmentPredictor, Target, Written
from CTSAM3DLib.prediction import PredictionWorker

POLL_MS = 50
WORKERS_TURN_S = 0.005
"""Qt's event loop holds Python's lock while it waits; this pause in every poll is when the worker's thread gets on."""


class EffectSegmentWriter:
    """A SegmentWriter of CTSAM3DLib over the effect: editable area, overwrite mode and undo are the editor's own."""

    def __init__(self, scriptedEffect, undoStateIsSaved: bool = False) -> None:
        """`undoStateIsSaved`: the state before this prediction is in the history, with the segment not yet added."""
        self._scriptedEffect = scriptedEffect
        self._undoStateIsSaved = undoStateIsSaved

    @property
    def segmentation_node(self):
        """The segmentation that is being edited."""
        parameterSetNode = self._scriptedEffect.parameterSetNode()
        return None if parameterSetNode is None else parameterSetNode.GetSegmentationNode()

    def reference_image(self):
        """The grid that segments are edited on."""
        return self._scriptedEffect.referenceGeometryImage()

    def save_state_for_undo(self) -> None:
        """Remember the segmentation as it is now."""
        if not self._undoStateIsSaved:
            self._scriptedEffect.saveStateForUndo()

    def set_labelmap(self, segment_id: str, labelmap) -> None:
        """Replace the segment, within the editable area."""
        self._scriptedEffect.modifySegmentByLabelmap(
            self.segmentation_node,
            segment_id,
            labelmap,
            slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet,
        )


class PredictionDriver:
    """What the effect asks for masks. `onOutcome` gets each Growing, Written and Failed, from the event loop."""

    def __init__(self, onOutcome: Callable[[Growing | Written | Failed], None]) -> None:
        self._onOutcome = onOutcome
        self._choice = None
        self._worker: PredictionWorker | None = None
        self._predictor: SegmentPredictor | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)

    def predict(self, choice, target: Target, clicks, writer, reach: str, keepRadiusMm: float | None) -> None:
        """Ask for the mask of these clicks (LPS, local frame) with the backend of `choice`.

        What was asked for the same segment before is dropped. Raises CTSAM3DError where it cannot be asked at all.
        """
        predictor = self._predictorOf(choice)
        written = predictor.predict(target, clicks, writer, reach, keepRadiusMm)
        if written is not None:
            self._onOutcome(written)
        if predictor.busy():
            self._timer.start()

    def busy(self, target: Target | None = None) -> bool:
        """Whether a mask is on its way, of this segment or of any."""
        return self._predictor is not None and self._predictor.busy(target)

    def cancel(self) -> None:
        """Drop everything that was asked, and the clicks that no mask answers."""
        if self._predictor is not None:
            self._predictor.cancel()
        self._timer.stop()

    def leave(self) -> None:
        """Ask no more; clicks that no mask answers stay with their segments. What was computed is kept."""
        self._timer.stop()
        if self._predictor is not None:
            self._predictor.close()
        self._predictor = None

    def close(self) -> None:
        """Let the backend go too."""
        self.leave()
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._choice = None

    def _predictorOf(self, choice) -> SegmentPredictor:
        if choice != self._choice:
            self.close()
            self._worker = PredictionWorker(choice.load)
            self._choice = choice
        if self._predictor is None:
            self._predictor = SegmentPredictor(self._worker)
        return self._predictor

    def _poll(self) -> None:
        time.sleep(WORKERS_TURN_S)
        if self._predictor is None:
            return
        for outcome in self._predictor.poll():
            self._onOutcome(outcome)
        if not self.busy():  # an outcome's slot may have asked for more, or closed the predictor
            self._timer.stop()
