"""What the page says in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trame_server.state import State

from CTSAM3DLib.errors import CTSAM3DError


class Messages:
    """The page's status line, its problems, and what it is busy with."""

    def __init__(self, state: State) -> None:
        self._state = state
        state.update({"status": "", "problem": "", "busy": ""})

    def say(self, text: str) -> None:
        """Show in the status line how things stand; the last problem is over."""
        with self._state as state:
            state.status, state.problem = text, ""

    def problem(self, text: str) -> None:
        """Show what went wrong, and what to do, until something goes right or it is closed."""
        with self._state as state:
            state.problem = text

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show while the block runs that the page is busy; what goes wrong in it is shown as a problem."""
        try:
            with self._state as state:
                state.busy, state.problem = text, ""
            yield
        except MemoryError:
            self.problem("This computer has not enough memory left for that; close other programs and try again.")
        except CTSAM3DError as error:
            self.problem(str(error))
        finally:
            with self._state as state:
                state.busy = ""
