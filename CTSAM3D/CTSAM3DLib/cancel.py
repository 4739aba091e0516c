"""Cancelling long work: the caller sets an event, and the work checks it between steps."""

from __future__ import annotations

from typing import Protocol

from CTSAM3DLib.errors import Cancelled


class CancelEvent(Protocol):
    """The part of `threading.Event` that the library reads."""

    def is_set(self) -> bool:
        """Whether the work is cancelled."""


def stop_if_cancelled(cancel: CancelEvent | None) -> None:
    """Raise Cancelled if the event is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("The segmentation was cancelled; the clicks are kept.")
