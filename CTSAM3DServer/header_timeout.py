"""Connections that ask for nothing do not stay: uvicorn itself would wait for a request's head without end.

Without this, whoever opens as many connections as there may be keeps everyone else out, and needs no key for it.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0
"""How long the head of a request may take, from the connection or from its first byte."""


class TimedHeads(H11Protocol):
    """uvicorn's HTTP/1.1, which hangs up on whoever does not finish the head of a request in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Go on with what has come; between two requests uvicorn counts the time until it does."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._time_head()
        else:
            self._stop_timing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_timing()
        super().connection_lost(exc)

    def _time_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _stop_timing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
