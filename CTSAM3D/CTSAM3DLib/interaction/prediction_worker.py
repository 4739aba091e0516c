"""Predictions in the background: one thread, which answers the latest clicks of each target.

The thread that asks (in Slicer the only one that may touch MRML) never waits: it calls `request` and, now and then,
`poll`. A newer request for the same target takes the place of the older one, which is cancelled wherever it is, so
that rapid clicks cost one prediction; requests for different targets wait for one another in turn.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cancel import CancelEvent
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DLib.segmentation.result import Result

logger = logging.getLogger(__name__)

OPEN_SESSIONS = 2
"""Volumes that stay open; going back to one of them costs nothing."""

FIRST_PREVIEW_S = 0.1
"""A mask that is there by then needs no preview, which would only hold it up."""
PREVIEW_PAUSE = 4
"""Times that making a preview took until the next one: previews take at most a fifth of a prediction."""


class OpenedVolume(Protocol):
    """What a segmenter's `open` gives, like `CTSAM3DLib.Session`."""

    def prepare(self) -> None:
        """Do ahead of the first click what needs no click."""

    def segment(
        self,
        clicks: Sequence[Click],
        reach: Reach = "structure",
        progress: Callable[[Result], None] | None = None,
        cancel: CancelEvent | None = None,
    ) -> Result:
        """The mask of these clicks; see `CTSAM3DLib.Session.segment`."""


class Backend(Protocol):
    """Anything that opens volumes: a `Segmenter`, or what `connect` gives."""

    def open(self, volume: Volume) -> OpenedVolume:
        """A session on a CT."""


@dataclass(frozen=True, eq=False)
class Preparation:
    """A volume that will be clicked on soon."""

    volume: Volume
    volume_key: Hashable
    """As in a `Request`."""


@dataclass(frozen=True, eq=False)
class Request:
    """Clicks whose mask is wanted."""

    target: Hashable
    """What the mask is for; a newer request for an equal target takes this one's place."""
    volume: Volume
    volume_key: Hashable
    """Equal for equal volumes, so that a session on one is found again without hashing its voxels."""
    clicks: tuple[Click, ...]
    reach: Reach
    grid: Geometry
    """The grid that the mask is wanted on, in the same frame as the volume."""
    number: int = field(default_factory=itertools.count(1).__next__)
    """Later requests have greater numbers."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A mask on its way or, if `final`, done."""

    request: Request
    result: Result
    mask: NDArray[np.uint8]
    """0 or 1, z, y, x, in `box` of the request's grid; outside of the box there is nothing."""
    box: Box
    final: bool


@dataclass(frozen=True, eq=False)
class Failure:
    """A request that cannot be answered; the error's text is for the user."""

    request: Request
    error: CTSAM3DError


class PredictionWorker:
    """Answers requests on a thread of its own, with the backend that `load` gives when the first one comes.

    `load` runs on that thread too, and again after it failed. Sessions are opened there, which is where volumes are
    checked and hashed.
    """

    def __init__(self, load: Callable[[], Backend]) -> None:
        self._load = load
        self._backend: Backend | None = None
        self._sessions: OrderedDict[Hashable, OpenedVolume] = OrderedDict()
        self._changed = threading.Condition()
        # All that follows belongs to both threads and is touched under the lock of `_changed` alone.
        self._waiting: OrderedDict[Hashable, Request] = OrderedDict()
        self._preparation: Preparation | None = None
        self._running: Request | None = None
        self._cancel = threading.Event()
        self._outcomes: list[Answer | Failure] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ctsam3d-prediction", daemon=True)
        self._thread.start()

    def prepare(self, preparation: Preparation) -> None:
        """Load the backend and open a session while there is nothing to answer, so that the first click need not wait.

        What goes wrong is told when a mask is asked for.
        """
        with self._changed:
            self._preparation = preparation
            self._changed.notify_all()

    def request(self, request: Request) -> None:
        """Ask for a mask; what was asked, or not yet taken, for the same target is dropped."""
        with self._changed:
            if self._closed:
                raise CTSAM3DError("The prediction was asked of a backend that is closed; choose the backend again.")
            self._drop(request.target)
            self._waiting[request.target] = request
            self._changed.notify_all()

    def cancel(self, target: Hashable) -> None:
        """Drop what was asked for a target; no outcome of it will be polled any more."""
        with self._changed:
            self._drop(target)

    def poll(self) -> list[Answer | Failure]:
        """What has happened since the last call, oldest first: of partial answers the latest one alone."""
        with self._changed:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def busy(self) -> bool:
        """Whether something waits, runs, or has not been polled."""
        with self._changed:
            return bool(self._waiting or self._running or self._outcomes)

    def wait(self, timeout: float) -> bool:
        """Wait, for scripts, until there is something to poll or nothing to do; False after `timeout` seconds."""

        def ready() -> bool:
            return bool(self._outcomes) or not (self._waiting or self._running)

        with self._changed:
            return self._changed.wait_for(ready, timeout)

    def close(self) -> None:
        """Drop everything and end the thread, without waiting for it; the backend is its owner's to close."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._outcomes.clear()
            self._cancel.set()
            self._running = None
            self._changed.notify_all()

    def _drop(self, target: Hashable) -> None:
        self._waiting.pop(target, None)
        self._outcomes = [outcome for outcome in self._outcomes if outcome.request.target != target]
        if self._running is not None and self._running.target == target:
            self._cancel.set()
            self._running = None
        self._changed.notify_all()

    # What follows runs on the worker's own thread.

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            if isinstance(taken, Preparation):
                self._prepare(taken)
                continue
            request, cancel = taken
            try:
                self._tell(self._answered(request, cancel))
            except CTSAM3DError as error:  # Cancelled among them, which nobody hears where we cancelled it
                self._tell(Failure(request, error))
            except Exception:  # a defect of ours, which would otherwise end the thread and leave the user waiting
                logger.exception("Request %d ended with a defect.", request.number)
                self._tell(Failure(request, CTSAM3DError("The prediction failed by a defect; please report the log.")))
            with self._changed:
                if self._running is request:
                    self._running = None
                self._changed.notify_all()
        self._sessions.clear()
        self._backend = None

    def _next(self) -> tuple[Request, threading.Event] | Preparation | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._preparation or self._closed)
            if self._closed:
                return None
            preparation, self._preparation = self._preparation, None
            if preparation is not None and not self._waiting:
                return preparation
            _, self._running = self._waiting.popitem(last=False)
            self._cancel = threading.Event()
            return self._running, self._cancel

    def _prepare(self, preparation: Preparation) -> None:
        try:
            self._session(preparation).prepare()
        except CTSAM3DError:
            pass  # it is told when a mask is asked for
        except Exception:  # a defect of ours, which would otherwise end the thread
            logger.exception("A volume could not be prepared because of a defect.")

    def _answered(self, request: Request, cancel: threading.Event) -> Answer:
        next_preview = time.monotonic() + FIRST_PREVIEW_S

        def progress(result: Result) -> None:
            nonlocal next_preview
            begun = time.monotonic()
            if begun >= next_preview:
                self._tell(_answer(request, result))
                ended = time.monotonic()
                next_preview = ended + PREVIEW_PAUSE * (ended - begun)

        result = self._session(request).segment(request.clicks, request.reach, progress, cancel)
        return _answer(request, result)

    def _session(self, request: Request | Preparation) -> OpenedVolume:
        if self._backend is None:
            self._backend = self._load()
        if request.volume_key not in self._sessions:
            self._sessions[request.volume_key] = self._backend.open(request.volume)
            if len(self._sessions) > OPEN_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(request.volume_key)
        return self._sessions[request.volume_key]

    def _tell(self, outcome: Answer | Failure) -> None:
        with self._changed:
            if self._running is not outcome.request:
                return  # dropped in the meantime
            self._outcomes = [
                other
                for other in self._outcomes
                if other.request is not outcome.request or not isinstance(other, Answer) or other.final
            ]
            self._outcomes.append(outcome)
            self._changed.notify_all()


def _answer(request: Request, result: Result) -> Answer:
    on_grid = dataclasses.replace(result, geometry=request.grid)
    mask, box = on_grid.cropped
    return Answer(request, on_grid, mask, box, result.final)
