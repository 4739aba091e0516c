"""Predictions in an application that must never wait: asked here, looked for from a timer.

A worker, with what it has opened and computed, is kept as long as the user stays with one backend and model. A
predictor, which knows what was asked, lives until it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import qt

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.interaction.prediction_worker import Backend, PredictionWorker
from CTSAM3DLib.mrml.predictor import Failed, Growing, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import SegmentWriter
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DWidgets.BackgroundTask import THREADS_TURN_S

POLL_MS = 10


class BackendChoice(Protocol):
    """A backend with its model that the user has chosen, not yet loaded. Equal choices are the same backend."""

    def load(self) -> Backend:
        """Make it ready, on the worker's thread. Raises CTSAM3DError."""

    def progress(self) -> str:
        """What to tell the user while it gets ready; empty once it is."""


class PredictionDriver:
    """Whom the panels ask for masks.

    From the event loop, `onOutcome` gets each Growing, Written and Failed. `onIdle` is called when nothing is on its
    way any more, also where a mask is no longer wanted and has no outcome. `onWaiting` gets the backend's choice, now
    and then, as long as there is nothing to tell.
    """

    def __init__(
        self,
        onOutcome: Callable[[Growing | Written | Failed], None],
        onIdle: Callable[[], None],
        onWaiting: Callable[[BackendChoice], None] = lambda choice: None,
    ) -> None:
        self._onOutcome = onOutcome
        self._onIdle = onIdle
        self._onWaiting = onWaiting
        self._choice: BackendChoice | None = None
        self._worker: PredictionWorker | None = None
        self._predictor: SegmentPredictor | None = None
        self._targets: list[Target] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)

    def predict(
        self,
        choice: BackendChoice,
        target: Target,
        clicks: Sequence[Click],
        writer: SegmentWriter,
        reach: Reach,
        keepRadiusMm: float | None,
    ) -> None:
        """Ask for the mask of these clicks (LPS, local frame) with the backend of `choice`.

        What was asked for the same segment before is dropped. Raises CTSAM3DError where it cannot be asked at all.
        """
        predictor = self._predictorOf(choice)
        self._targets = [*(known for known in self.busyTargets() if known != target), target]
        written = predictor.predict(target, clicks, writer, reach, keepRadiusMm)
        if written is not None:
            self._onOutcome(written)
        if predictor.busy():
            self._timer.start()

    def busy(self, target: Target | None = None) -> bool:
        """Whether a mask is on its way, of this segment or of any."""
        return self._predictor is not None and self._predictor.busy(target)

    def busyTargets(self) -> list[Target]:
        """The segments whose masks are on their way."""
        return [target for target in self._targets if self.busy(target)]

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
        """Let the backend go too; nothing can be asked any more."""
        self._letGo()
        self._timer.disconnect("timeout()", self._poll)

    def _predictorOf(self, choice: BackendChoice) -> SegmentPredictor:
        if choice != self._choice:
            self._letGo()
            self._worker = PredictionWorker(choice.load)
            self._choice = choice
        if self._predictor is None:
            self._predictor = SegmentPredictor(self._worker)
        return self._predictor

    def _letGo(self) -> None:
        self.leave()
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._choice = None

    def _poll(self) -> None:
        if self._predictor is None:
            return
        self._worker.wait(THREADS_TURN_S)
        outcomes = self._predictor.poll()
        for outcome in outcomes:
            self._onOutcome(outcome)
        if not self.busy():  # an outcome's slot may have asked for more, or closed the predictor
            self._timer.stop()
            self._onIdle()
        elif not outcomes:
            self._onWaiting(self._choice)
