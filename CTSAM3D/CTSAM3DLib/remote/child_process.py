"""Python in a process of its own: how it is started, what it and its parent say to one another, and how it ends.

The parent writes lines to the child's standard input and keeps that open; where it is closed, for whatever reason, the
child ends. The child writes one JSON object a line to its standard output, among what its libraries print. It takes no
code from the current folder, where downloaded data may lie.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled

KEPT_LINES = 20
"""Of standard error, for `last_words`."""
TICK_S = 0.1
"""Between two looks at whether the child is still wanted."""
PIPE_S = 1.0
"""What a child wrote just before its end may be on its way for so long."""

_WINDOWS_FLAGS: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
_RUN = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """The command by which this interpreter runs a module, as `python -m` does.

    Before Python 3.11, which brought `-P`, `-m` looks for modules in the current folder first and cannot be told not
    to; `-c` does so too, but its code can take that folder off the path before it imports anything.
    """
    return [python, "-c", _RUN, module, *arguments]


def child_environment(inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment, our own by default, for such a process and for what it starts itself."""
    environment = dict(os.environ if inherited is None else inherited)
    environment["PYTHONSAFEPATH"] = "1"  # as -P, from Python 3.11 on
    # An empty part, as `export PYTHONPATH=$PYTHONPATH:/more` easily leaves one, is the current folder.
    folders = [folder for folder in environment.pop("PYTHONPATH", "").split(os.pathsep) if folder]
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment


class ChildEndedError(Exception):
    """A child has ended and said nothing more; the text is its last words. Callers make a sentence of it."""


class ChildProcess:
    """The parent's side of a child. Raises OSError where the command does not run.

    `keep_errors`: standard error is kept for `last_words`, instead of going where our own goes. `folder` is the
    child's current one, ours by default.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        keep_errors: bool = True,
        folder: Path | None = None,
    ) -> None:
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_errors else None,
            encoding="utf-8",
            errors="replace",
            env=dict(environment),
            cwd=folder,
            start_new_session=True,  # Ctrl-C in our terminal is for us, and a child can be ended with its children
            creationflags=_WINDOWS_FLAGS,
        )
        self._stdin = cast("IO[str]", self._process.stdin)
        self._readers = []
        for pipe, read in ((self._process.stdout, self._read_messages), (self._process.stderr, self._read_errors)):
            if pipe is not None:
                reader = threading.Thread(target=read, args=(pipe,), daemon=True)
                reader.start()
                self._readers.append(reader)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last line that it wrote to its standard error, where that is kept, or how it ended."""
        for reader in self._readers:
            reader.join(PIPE_S)
        with suppress(subprocess.TimeoutExpired):  # its pipes close a moment before it has ended
            self._process.wait(PIPE_S)
        lines = [line.strip() for line in self._errors if line.strip()]
        if lines:
            return lines[-1].removeprefix("error: ").rstrip(".")
        return f"exit code {self.exit_code}"

    def send(self, line: str) -> None:
        """Write a line to its input. That it has ended is found out when it should answer."""
        with suppress(OSError):
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def message(self, timeout: float) -> dict[str, Any] | None:
        """The next object that it said; None where none comes within `timeout` seconds. Raises ChildEndedError."""
        try:
            message = self._messages.get(timeout=timeout) if timeout > 0 else self._messages.get_nowait()
        except queue.Empty:
            if self.running or not self._messages.empty():
                return None
            message = None  # it has ended, and something that it started holds its output open
        if message is None:
            self._messages.put(None)  # for the next look
            raise ChildEndedError(self.last_words)
        return message

    def wait_for(
        self,
        name: str,
        seconds: float,
        cancel: CancelEvent | None = None,
        other: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """Wait until it says an object with the field `name`, and return that; `other` gets what it says before.

        Raises ChildEndedError, TimeoutError after `seconds`, and Cancelled.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stop_if_cancelled(cancel)
            message = self.message(TICK_S)
            if message is not None and name in message:
                return message[name]
            if message is not None and other is not None:
                other(message)
        raise TimeoutError

    def stop(self, seconds: float) -> None:
        """End it as its parent's death would, and by force where that takes longer than `seconds`."""
        with suppress(OSError):  # it has ended already
            self._stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        for reader in self._readers:
            reader.join(PIPE_S)

    def kill(self) -> None:
        """End it at once, and what it has started."""
        if self.running and os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # does nothing where it has ended
        self._process.wait()

    def _read_messages(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # something else that a library printed
                if isinstance(message, dict):
                    self._messages.put(message)
        self._messages.put(None)

    def _read_errors(self, pipe: IO[str]) -> None:
        with pipe:
            self._errors.extend(pipe)


# The child's side.


def first_line() -> str:
    """The line that the parent writes before anything else; UTF-8, whatever the system's own encoding is."""
    return sys.stdin.buffer.readline().decode("utf-8").strip()


def tell_parent(**message: Any) -> None:
    """Say one thing to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def end_with_parent(end: Callable[[], None]) -> None:
    """Call `end`, on a thread of its own, once the parent closes our input or is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        end()

    threading.Thread(target=wait, daemon=True).start()
