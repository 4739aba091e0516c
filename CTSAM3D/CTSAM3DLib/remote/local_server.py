"""A server of our own on this computer: started, watched, started again after a crash, stopped.

The network then works in another process, so that a crash of it takes nobody along, and a program with a window stays
quick. Masks, errors and calls are those of any server.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from CTSAM3DLib.cancel import CancelEvent
from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.remote.child_process import ChildEndedError, ChildProcess, child_environment, module_command
from CTSAM3DLib.remote.connection import Connection, Endpoint
from CTSAM3DLib.remote.remote_segmenter import RemoteSegmenter

logger = logging.getLogger(__name__)

START_S = 180.0
"""The longest time that importing PyTorch and loading models may take."""
STOP_S = 15.0
MAX_RESTARTS = 3
"""Crashes within `RESTARTS_S` after which it is not started again."""
RESTARTS_S = 600.0


class LocalServer:
    """A server on loopback and a free port, with a key that nobody else knows; it ends with this process.

    `python` is the interpreter that runs it, `models` names of bundled models or files of weights, `memory` bytes for
    its caches, `environment` that of the new process instead of our own. Safe across threads.
    """

    def __init__(
        self,
        python: str = sys.executable,
        models: Sequence[str] = ("ctsam3d-small",),
        device: str | None = None,
        memory: int = 2 * 2**30,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        options = [f"--models={model}" for model in models] + [f"--memory={memory / 2**30}"]
        options += [f"--device={device}"] if device is not None else []
        self._command = module_command(python, "CTSAM3DServer", "--local", *options)
        self._environment = environment
        self._process: _Process | None = None
        self._crashes: deque[float] = deque(maxlen=MAX_RESTARTS + 1)
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> LocalServer:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the server is there."""
        return self._process is not None and self._process.running

    def start(self, progress: Callable[[str], None] | None = None, cancel: CancelEvent | None = None) -> None:
        """Start the server unless it runs, and wait until it is ready.

        `progress` is told in words what is going on. Raises ServerError with what the server said last, and Cancelled,
        without a `cancel` of the caller's also when `stop` is called meanwhile.
        """
        with self._lock:
            if not self.running:
                self._crashes.clear()
                self._stopping.clear()
                self._process = _Process(self._command, self._environment, progress, cancel or self._stopping)

    def stop(self) -> None:
        """Stop the server, if it runs; what it is doing may end first."""
        self._stopping.set()  # so that a start is not waited for
        with self._lock:
            if self._process is not None:
                self._process.stop(STOP_S)
                self._process = None

    def connect(self, model: str | None = None) -> RemoteSegmenter:
        """A segmenter on this server, for which the server is started again should it crash.

        Raises ServerError where it is not started, and ModelError.
        """
        return RemoteSegmenter.on(Connection(self.endpoint), "this computer", model)

    def endpoint(self) -> Endpoint:
        """Where the server is; after a crash, that of a new one. Raises ServerError where it is not started."""
        with self._lock:
            if self._process is None:
                raise ServerError(Problem.NOT_STARTED, "The server on this computer is not started; start it first.")
            if not self._process.running:
                self._process = self._after_crash(self._process)
            return self._process.endpoint

    def _after_crash(self, crashed: _Process) -> _Process:
        now, last_words = time.monotonic(), crashed.last_words
        self._crashes.append(now)
        if len(self._crashes) > MAX_RESTARTS and now - self._crashes[0] < RESTARTS_S:
            raise ServerError(
                Problem.NOT_STARTED,
                f"The server on this computer keeps ending by itself ({last_words}); start it again, or use another.",
            )
        logger.warning("The server on this computer ended by itself (%s); it is started again.", last_words)
        crashed.stop(STOP_S)
        return _Process(self._command, self._environment, cancel=self._stopping)


class _Process(ChildProcess):
    """One run of the server, ready once this is made."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        progress: Callable[[str], None] | None = None,
        cancel: CancelEvent | None = None,
    ) -> None:
        try:
            super().__init__(command, _environment(environment))
        except OSError as error:
            raise ServerError(
                Problem.NOT_STARTED, f"The server cannot be started: {command[0]} does not run ({error.strerror})."
            ) from error
        key = secrets.token_urlsafe(32)
        try:
            self.send(key)
            self.endpoint = Endpoint(self._address(progress, cancel), key)
        except BaseException:
            self.kill()
            raise

    def _address(self, progress: Callable[[str], None] | None, cancel: CancelEvent | None) -> str:
        """Wait until the server is ready, and return where it is."""

        def tell(said: dict[str, str]) -> None:
            if progress is not None and "status" in said:
                progress(said["status"])

        try:
            return str(self.wait_for("address", START_S, cancel, tell))
        except ChildEndedError as last_words:
            raise ServerError(
                Problem.NOT_STARTED, f"The server on this computer did not start: {last_words}."
            ) from None
        except TimeoutError:
            raise ServerError(
                Problem.NOT_STARTED, f"The server on this computer was not ready within {START_S:.0f} s; try again."
            ) from None


def _environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """An environment in which the server finds the code that it shares with us."""
    inherited = os.environ if given is None else given
    # Settings of another server, which its administrator made for that one.
    environment = child_environment(
        {name: value for name, value in inherited.items() if not name.startswith("CTSAM3D_")}
    )
    # Installed, and in Slicer, both packages lie in one folder; in a checkout the server's is one folder up.
    together, above = Path(__file__).resolve().parents[1:3]
    folders = [str(folder) for folder in (together, above) if folder == together or (folder / "CTSAM3DServer").is_dir()]
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([*folders, *([before] if before else [])])
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment
