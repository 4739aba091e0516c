"""Predictions in an application that must never wait: asked here, and looked for from its event loop.

    predict -> `start_polling` of the shell -> poll, poll, poll -> outcomes, and at last idle

A worker, with what it has opened and computed, is kept as long as the user stays with one backend and model. A
predictor, which knows what was asked, lives until it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.interaction.backends import BackendChoice
from CTSAM3DLib.interaction.prediction_worker import PredictionWorker
from CTSAM3DLib.mrml.predictor import Failed, Growing, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import SegmentWriter
from CTSAM3DLib.segmentation.growth import Reach

POLL_S = 0.01
"""Between two looks of an event loop."""

Outcome = Growing | Written | Failed


class PredictionDriver:
    """Requests masks for a front end and delivers them on the thread of its event loop.

    `on_outcome` gets each outcome. `on_idle` is called when nothing is on its way any more, also where a mask is no
    longer wanted and has no outcome. `on_waiting` gets the backend's choice, now and then, as long as there is nothing
    to tell. `start_polling` has to see to it that `poll` is called until it gives False; it may be called again before.
    """

    def __init__(
        self,
        on_outcome: Callable[[Outcome], None],
        on_idle: Callable[[], None],
        start_polling: Callable[[], None],
        on_waiting: Callable[[BackendChoice], None] = lambda choice: None,
    ) -> None:
        self._on_outcome = on_outcome
        self._on_idle = on_idle
        self._on_waiting = on_waiting
        self._start_polling = start_polling
        self._choice: BackendChoice | None = None
        self._worker: PredictionWorker | None = None
        self._predictor: SegmentPredictor | None = None

    def prepare(self, choice: BackendChoice, target: Target, writer: SegmentWriter) -> None:
        """Get ready for clicks on this target, so that the first one need not wait for it. Raises CTSAM3DError."""
        self._predictor_of(choice).prepare(target, writer)

    def predict(
        self,
        choice: BackendChoice,
        target: Target,
        clicks: Sequence[Click],
        writer: SegmentWriter,
        reach: Reach,
        keep_radius_mm: float | None = None,
    ) -> None:
        """Ask for the mask of these clicks (LPS, local frame) with the backend of `choice`.

        What was asked for the same segment before is dropped. Raises CTSAM3DError where it cannot be asked at all.
        """
        predictor = self._predictor_of(choice)
        written = predictor.predict(target, clicks, writer, reach, keep_radius_mm)
        if written is not None:
            self._on_outcome(written)
        if predictor.busy():
            self._start_polling()

    def busy(self, target: Target | None = None) -> bool:
        """Whether a mask is on its way, of this segment or of any."""
        return self._predictor is not None and self._predictor.busy(target)

    def targets(self) -> list[Target]:
        """The segments whose masks are on their way; what was asked last comes last."""
        return [] if self._predictor is None else self._predictor.targets()

    def cancel(self, target: Target | None = None) -> None:
        """Drop what was asked, for this segment or for all, and the clicks that no mask answers."""
        if self._predictor is not None:
            self._predictor.cancel(target)

    def leave(self) -> None:
        """Ask no more; clicks that no mask answers stay with their segments. What was computed is kept."""
        if self._predictor is not None:
            self._predictor.close()
        self._predictor = None

    def forget(self) -> None:
        """Ask no more, and let the backend go too with what it has computed."""
        self.leave()
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._choice = None

    def poll(self, wait_s: float = 0.0) -> bool:
        """Deliver what has come, and say whether more is to come.

        Up to `wait_s` are waited for it, for applications whose Python holds other threads up meanwhile.
        """
        if self._predictor is None or self._worker is None or self._choice is None:
            return False
        if wait_s > 0:
            self._worker.wait(wait_s)
        outcomes = self._predictor.poll()
        for outcome in outcomes:
            self._on_outcome(outcome)
        if not self.busy():  # who got an outcome may have asked for more, or left
            self._on_idle()
            return False
        if not outcomes:
            self._on_waiting(self._choice)
        return True

    def _predictor_of(self, choice: BackendChoice) -> SegmentPredictor:
        if self._worker is None or choice != self._choice:
            self.forget()
            self._worker = PredictionWorker(choice.load)
            self._choice = choice
        if self._predictor is None:
            self._predictor = SegmentPredictor(self._worker)
        return self._predictor
