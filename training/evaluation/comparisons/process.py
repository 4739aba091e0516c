"""The evaluation's side of the worker protocol: a worker process that handles one request at a time.

A system that crashes, hangs or prints takes nothing along: each becomes one sentence. `workers/serve.py` has the
messages.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.remote.child_process import TICK_S, ChildEndedError, ChildProcess

_WORKERS = Path(__file__).parent


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
        try:
            self._process = ChildProcess(
                [python, "-m", f"workers.{module}"],
                _environment(),
                folder=self.folder,  # where nobody else has put code, which `-m` would take
            )
        except OSError as error:
            self._folder.cleanup()
            raise ComparisonError(
                f"{name} cannot be started: {python} does not run ({error.strerror}); "
                "give the Python of its environment by --python."
            ) from error

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.running

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
            self._process.send(json.dumps({"do": do, **content}))
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
        self._process.kill()
        self._process.stop(0)
        self._folder.cleanup()

    def _answer(self, cancel: CancelEvent | None) -> dict[str, Any]:
        heard = time.monotonic()
        while True:
            stop_if_cancelled(cancel)
            try:
                said = self._process.message(TICK_S)
            except ChildEndedError as last_words:
                raise ComparisonError(f"{self._name} ended by itself ({last_words}); see to its environment.") from None
            if said is None and time.monotonic() - heard > self._silence_s:
                raise ComparisonError(
                    f"{self._name} said nothing for {self._silence_s:.0f} s and was ended; "
                    "allow it more by --silence, or give it a smaller CT."
                )
            if said is not None and "progress" not in said:
                return said
            if said is not None:
                heard = time.monotonic()


def _environment() -> dict[str, str]:
    """Ours, with the workers in place of our own packages."""
    return {**os.environ, "PYTHONPATH": str(_WORKERS), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
