"""Cancelling long work: an event that its owner sets, asked between two steps."""

from __future__ import annotations

from typing import Protocol

from CTSAM3DLib.errors import Cancelled


class CancelEvent(Protocol):
    """Something like `threading.Event`."""

    def is_set(self) -> bool:
        """Whether the user wants to stop."""


def stop_if_cancelled(cancel: CancelEvent | None) -> None:
    """Raise Cancelled when the user wants to stop."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("The segmentation was cancelled; the clicks are kept.")
