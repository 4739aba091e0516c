"""Something that takes a while, on a thread of its own, while the application goes on."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import qt
from slicer.i18n import tr as _

from CTSAM3DLib.errors import CTSAM3DError

POLL_MS = 20
THREADS_TURN_S = 0.02
"""Qt's event loop holds Python's lock in Slicer, even while it waits. A thread gets on when a poll gives the lock away,
for so long or until there is news; views are still drawn some thirty times a second."""
T = TypeVar("T")


class BackgroundTask(Generic[T]):
    """Runs `work(report, cancel)` once.

    `work` must touch neither Qt nor MRML. It may call `report(anything)`, which reaches `onProgress` in the event
    loop, and should raise Cancelled soon after the event `cancel` is set. `onDone(result)` or `onFailed(error)` is
    called in the event loop; neither is after a cancel.
    """

    def __init__(
        self,
        work: Callable[[Callable[[object], None], threading.Event], T],
        onDone: Callable[[T], None],
        onFailed: Callable[[CTSAM3DError], None],
        onProgress: Callable[[object], None] = lambda progress: None,
    ) -> None:
        self._work = work
        self._onDone = onDone
        self._onFailed = onFailed
        self._onProgress = onProgress
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ctsam3d-task", daemon=True)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)
        self._timer.start()
        self._thread.start()

    def running(self) -> bool:
        """Whether an end is still to be told."""
        return bool(self._timer.active)

    def cancel(self) -> None:
        """Ask the work to stop, and hear no more of it."""
        self._cancel.set()
        self._timer.stop()

    def _poll(self) -> None:
        self._thread.join(THREADS_TURN_S)
        while self.running() and not self._news.empty():
            self._news.get()()

    def _finish(self, tell: Callable[[], None]) -> None:
        self._timer.stop()
        tell()

    # On the thread

    def _run(self) -> None:
        try:
            result = self._work(self._report, self._cancel)
        except CTSAM3DError as error:  # Cancelled among them, which nobody hears where we cancelled it
            failure = error
        except Exception:  # a defect of ours: without an end the panel would wait for ever
            logging.exception("A background task ended with a defect")
            failure = CTSAM3DError(_("This failed by a defect; please report the application's log."))
        else:
            self._news.put(lambda: self._finish(lambda: self._onDone(result)))
            return
        self._news.put(lambda: self._finish(lambda: self._onFailed(failure)))

    def _report(self, progress: object) -> None:
        self._news.put(lambda: self._onProgress(progress))
