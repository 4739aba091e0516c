"""The library's driver of predictions on asyncio's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from CTSAM3DLib.mrml.prediction_driver import POLL_S, Outcome, PredictionDriver


class Predictions(PredictionDriver):
    """Polls in a task while something is on its way."""

    def __init__(self, on_outcome: Callable[[Outcome], None], on_idle: Callable[[], None]) -> None:
        super().__init__(on_outcome, on_idle, self._begin_polling)
        self._polling: asyncio.Task[None] | None = None

    def _begin_polling(self) -> None:
        if self._polling is None or self._polling.done():
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        while self.poll():
            await asyncio.sleep(POLL_S)
