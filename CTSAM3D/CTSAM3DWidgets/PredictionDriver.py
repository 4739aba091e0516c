"""The library's driver of predictions on Qt's event loop."""

from __future__ import annotations

from collections.abc import Callable

import qt

from CTSAM3DLib.interaction.backends import BackendChoice
from CTSAM3DLib.mrml import prediction_driver
from CTSAM3DLib.mrml.prediction_driver import POLL_S, Outcome
from CTSAM3DWidgets.BackgroundTask import THREADS_TURN_S


class PredictionDriver(prediction_driver.PredictionDriver):
    """Polls from a timer while something is on its way."""

    def __init__(
        self,
        onOutcome: Callable[[Outcome], None],
        onIdle: Callable[[], None],
        onWaiting: Callable[[BackendChoice], None] = lambda choice: None,
    ) -> None:
        self._timer = qt.QTimer()
        self._timer.setInterval(round(1000 * POLL_S))
        self._timer.connect("timeout()", self._poll)
        super().__init__(onOutcome, onIdle, self._timer.start, onWaiting)

    def leave(self) -> None:
        """Ask no more; clicks that no mask answers stay with their segments. What was computed is kept."""
        self._timer.stop()
        super().leave()

    def close(self) -> None:
        """Let the backend go too; nothing can be asked any more. A timer that stays connected would keep us alive."""
        self.forget()
        self._timer.disconnect("timeout()", self._poll)

    def _poll(self) -> None:
        if not self.poll(THREADS_TURN_S):
            self._timer.stop()
