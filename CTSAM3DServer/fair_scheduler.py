"""One thread that works for everyone in turn."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from CTSAM3DLib.errors import CTSAM3DError

Answer = TypeVar("Answer")


class ClosedError(CTSAM3DError):
    """The worker takes no work any more."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down; try again later.")


_Piece = tuple["Future[Any]", Callable[[], Any]]


class FairWorker:
    """Does one piece of work at a time, going round among those who ask, however much each of them asks for."""

    def __init__(self, name: str) -> None:
        self._waiting: OrderedDict[Hashable, deque[_Piece]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pieces of work have not begun."""
        with self._changed:
            return sum(len(pieces) for pieces in self._waiting.values())

    def submit(self, asker: Hashable, work: Callable[[], Answer]) -> Future[Answer]:
        """Work to do when it is this asker's turn. Raises ClosedError once the worker is closed."""
        future: Future[Answer] = Future()
        with self._changed:
            if self._closed:
                raise ClosedError
            self._waiting.setdefault(asker, deque()).append((future, work))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish the piece of work that has begun; those that have not end with ClosedError."""
        with self._changed:
            self._closed = True
            abandoned = [future for pieces in self._waiting.values() for future, _ in pieces]
            self._waiting.clear()
            self._changed.notify()
        for future in abandoned:
            if future.set_running_or_notify_cancel():
                future.set_exception(ClosedError())
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            future, work = piece
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = work()
            except BaseException as error:  # whatever it is belongs to whoever asked
                future.set_exception(error)
            else:
                future.set_result(answer)

    def _next(self) -> _Piece | None:
        """The first piece of whoever has waited longest for a turn; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            asker, pieces = self._waiting.popitem(last=False)
            piece = pieces.popleft()
            if pieces:
                self._waiting[asker] = pieces  # behind everyone else
            return piece
