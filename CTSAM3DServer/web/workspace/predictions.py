"""Masks asked for and taken in an event loop that must never wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.interaction.prediction_worker import Backend, PredictionWorker
from CTSAM3DLib.mrml.predictor import Failed, Growing, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import SegmentWriter
from CTSAM3DLib.segmentation.growth import Reach

POLL_S = 0.01

Outcome = Growing | Written | Failed


class BackendChoice(Protocol):
    """A backend with its model that the user has chosen, not yet loaded. Equal choices are the same backend."""

    def load(self) -> Backend:
        """Make it ready, on the worker's thread. Raises CTSAM3DError."""


class Predictions:
    """Whom the workspace asks for masks. `on_outcome` gets each outcome, `on_idle` is called when none is to come."""

    def __init__(self, on_outcome: Callable[[Outcome], None], on_idle: Callable[[], None]) -> None:
        self._on_outcome = on_outcome
        self._on_idle = on_idle
        self._choice: BackendChoice | None = None
        self._worker: PredictionWorker | None = None
        self._predictor: SegmentPredictor | None = None
        self._polling: asyncio.Task[None] | None = None

    def prepare(self, choice: BackendChoice, target: Target, writer: SegmentWriter) -> None:
        """Get ready for clicks on this target, so that the first one need not wait for it. Raises CTSAM3DError."""
        self._predictor_of(choice).prepare(target, writer)

    def predict(
        self, choice: BackendChoice, target: Target, clicks: Sequence[Click], writer: SegmentWriter, reach: Reach
    ) -> None:
        """Ask for the mask of these clicks (LPS) in place of what was asked for this segment. Raises CTSAM3DError."""
        predictor = self._predictor_of(choice)
        written = predictor.predict(target, clicks, writer, reach)
        if written is not None:
            self._on_outcome(written)
        if predictor.busy() and (self._polling is None or self._polling.done()):
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    def busy(self) -> bool:
        """Whether a mask is on its way."""
        return self._predictor is not None and self._predictor.busy()

    def targets(self) -> list[Target]:
        """The segments whose masks are on their way."""
        return [] if self._predictor is None else self._predictor.targets()

    def cancel(self) -> None:
        """Stop; every segment keeps its mask and the clicks of that mask."""
        if self._predictor is not None:
            self._predictor.cancel()

    def forget(self) -> None:
        """Stop, and let go of all that was computed, as when another CT is opened."""
        if self._predictor is not None and self._worker is not None:
            self._predictor.close()
            self._worker.close()
        self._predictor = self._worker = self._choice = None

    def _predictor_of(self, choice: BackendChoice) -> SegmentPredictor:
        if choice != self._choice or self._predictor is None:
            self.forget()
            self._choice, self._worker = choice, PredictionWorker(choice.load)
            self._predictor = SegmentPredictor(self._worker)
        return self._predictor

    async def _poll(self) -> None:
        while self._predictor is not None and self._predictor.busy():
            for outcome in self._predictor.poll():
                self._on_outcome(outcome)
            await asyncio.sleep(POLL_S)
        self._on_idle()
