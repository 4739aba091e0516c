"""A round-robin scheduler: one thread that gives every client's jobs a slot in turn."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from CTSAM3DLib.errors import CTSAM3DError

Output = TypeVar("Output")


class ClosedError(CTSAM3DError):
    """The scheduler accepts no more jobs."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down; try again later.")


_Job = tuple["Future[Any]", Callable[[], Any]]


class FairScheduler:
    """Runs one job at a time, round-robin over clients, however many jobs each of them submits."""

    def __init__(self, name: str) -> None:
        self._waiting: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs that have not started."""
        with self._changed:
            return sum(len(jobs) for jobs in self._waiting.values())

    def submit(self, client: Hashable, work: Callable[[], Output]) -> Future[Output]:
        """Queue a job for the client's next slot. Raises ClosedError once the scheduler is closed."""
        future: Future[Output] = Future()
        with self._changed:
            if self._closed:
                raise ClosedError
            self._waiting.setdefault(client, deque()).append((future, work))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish the running job; jobs that have not started end with ClosedError."""
        with self._changed:
            self._closed = True
            abandoned = [future for jobs in self._waiting.values() for future, _ in jobs]
            self._waiting.clear()
            self._changed.notify()
        for future in abandoned:
            if future.set_running_or_notify_cancel():
                future.set_exception(ClosedError())
        self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                output = work()
            except BaseException as error:  # any error belongs to the client whose job raised it
                future.set_exception(error)
            else:
                future.set_result(output)

    def _next(self) -> _Job | None:
        """The first job of the client that has waited longest for a slot; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            client, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # behind all other clients
            return job
