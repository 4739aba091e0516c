"""The evaluation's side of the worker protocol: a worker process that handles one request at a time.

A system that crashes, hangs or prints takes nothing along: each becomes one sentence. `workers/serve.py` has the
messages.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.errors import CTSAM3DError

_WORKERS = Path(__file__).parent
_STOP_S = 10.0
_TICK_S = 0.1


class ComparisonError(CTSAM3DError):
    """A comparison system cannot be started, has ended, is silent for too long, or refuses a request."""


class Worker:
    """A comparison system in the environment of `python`; it ends with this process at the latest.

    `name` is what messages call it, `module` its file in `workers`, `silence_s` how long it may say nothing. Raises
    ComparisonError where `python` does not run.
    """

    def __init__(self, name: str, module: str, python: str, silence_s: float) -> None:
        self._name = name
        self._silence_s = silence_s
        self._folder = TemporaryDirectory(prefix="ctsam3d-comparison-")
        self._said: queue.Queue[str | None] = queue.Queue()
        self._errors: deque[str] = deque(maxlen=20)
        try:
            self._process = subprocess.Popen(
                [python, "-m", f"workers.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
                cwd=self._folder.name,  # where nobody else has put code, which `-m` would take
                start_new_session=True,  # Ctrl-C in our terminal is for us, and it can be ended with its children
            )
        except OSError as error:
            self._folder.cleanup()
            raise ComparisonError(
                f"{name} cannot be started: {python} does not run ({error.strerror}); "
                "give the Python of its environment by --python."
            ) from error
        self._stdin = cast("IO[str]", self._process.stdin)
        output, errors = cast("IO[str]", self._process.stdout), cast("IO[str]", self._process.stderr)
        self._readers = [
            threading.Thread(target=self._read_answers, args=(output,), daemon=True),
            threading.Thread(target=self._read_errors, args=(errors,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def folder(self) -> Path:
        """The folder of exchanged arrays; deleted by `close`."""
        return Path(self._folder.name)

    def ask(self, do: str, *, cancel: CancelEvent | None = None, **content: Any) -> dict[str, Any]:
        """Send one request and return the response.

        Raises ComparisonError with one sentence, and Cancelled; the worker is ended where it was at work then, since
        nothing else stops a foreign package.
        """
        try:
            with suppress(OSError):  # it has ended, which is found out below with its last words
                self._stdin.write(json.dumps({"do": do, **content}) + "\n")
                self._stdin.flush()
            answer = self._answer(cancel)
        except BaseException:  # Ctrl-C as well: an answer that comes late would be taken for the next one
            self.close()
            raise
        if "error" in answer:
            raise ComparisonError(f"{self._name} refuses: {answer['error']}")
        return answer

    def write(self, name: str, array: NDArray[np.generic]) -> None:
        """Write an array to a file of this name for the worker."""
        np.save(self.folder / name, array)

    def read(self, name: str) -> NDArray[Any]:
        """Read an array that the worker has written."""
        return cast("NDArray[Any]", np.load(self.folder / name))

    def close(self) -> None:
        """End the worker and its child processes at once."""
        with suppress(OSError):
            self._stdin.close()
        if self.running:
            _kill(self._process)
            self._process.wait(_STOP_S)
        for reader in self._readers:
            reader.join(_STOP_S)
        self._folder.cleanup()

    def _answer(self, cancel: CancelEvent | None) -> dict[str, Any]:
        heard = time.monotonic()
        while True:
            stop_if_cancelled(cancel)
            try:
                line = self._said.get(timeout=_TICK_S)
            except queue.Empty:
                if time.monotonic() - heard > self._silence_s:
                    raise ComparisonError(
                        f"{self._name} said nothing for {self._silence_s:.0f} s and was ended; "
                        "allow it more by --silence, or give it a smaller CT."
                    ) from None
                continue
            if line is None:
                raise ComparisonError(f"{self._name} ended by itself ({self._last_words()}); see to its environment.")
            said = json.loads(line)
            if "progress" not in said:
                return cast("dict[str, Any]", said)
            heard = time.monotonic()

    def _last_words(self) -> str:
        """The last line of the worker's standard error, or its exit status."""
        self._readers[1].join(1)  # what it wrote just before its end is still on its way
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1].rstrip(".") if lines else f"exit code {self._process.wait(_STOP_S)}"

    def _read_answers(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._said.put(line)
        self._said.put(None)

    def _read_errors(self, pipe: IO[str]) -> None:
        with pipe:
            self._errors.extend(pipe)


def _kill(process: subprocess.Popen[str]) -> None:
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _environment() -> dict[str, str]:
    """Ours, with the workers in place of our own packages."""
    return {**os.environ, "PYTHONPATH": str(_WORKERS), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
