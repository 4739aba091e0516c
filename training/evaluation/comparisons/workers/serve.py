"""The worker's side of the worker protocol.

Requests are lines of JSON on standard input, and every one is answered by a line on standard output; arrays travel as
.npy files in a folder that both sides know. Whatever a package prints goes to standard error.

| request | what it holds | answer |
| --- | --- | --- |
| `start` | `folder`, and the fields of `Settings` | `weights`, `classes` |
| `volume` | `file` of HU, `spacing` in mm | – |
| `click` | `voxel`, `positive` | – |
| `mask` | `structure`, a name or null | `file` of 0 and 1 |
| `reset` | takes all clicks back | – |

`{"progress": 0.4}` may precede an answer any number of times; `{"error": "a sentence"}` stands in place of one.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Voxel = tuple[int, int, int]
"""z, y, x."""
Spacing = tuple[float, float, float]
"""Millimetres in z, y, x."""

FRESH = "fresh"
"""Requests random weights, to try a system out; its masks are then meaningless."""


class Refusal(Exception):  # noqa: N818 - a sentence for the user, not a defect
    """A system cannot be used as requested; the message is one sentence with the fix."""


def numbers(text: str, count: int, what: str) -> tuple[float, ...]:
    """The numbers of an option such as "1.5,1.5,2". Raises Refusal where there are not `count` of them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        raise Refusal(f'"{text}" is not {what}; write {count} numbers with commas between them.')
    return found


@dataclass(frozen=True)
class Settings:
    """The user's settings of a system."""

    weights: str | None = None
    """A file or folder, FRESH, or None for the system's own weights."""
    clone: str | None = None
    """Folder of the system's repository, for systems that are no package."""
    device: str | None = None
    """PyTorch's name of the device; by default CUDA if available."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further options, listed in each system's `OPTIONS`."""


class System(ABC):
    """A comparison system: one volume at a time, and clicks in it."""

    OPTIONS: ClassVar[Mapping[str, str]] = {}
    """The further options with their defaults."""

    def __init__(self, settings: Settings) -> None:
        defaults = {**self.OPTIONS, "trust": "no"}
        if unknown := sorted(set(settings.options) - set(defaults)):
            raise Refusal(f"it has no option {', '.join(unknown)}; it has: {', '.join(defaults)}.")
        self.settings = settings
        self.option = {**defaults, **settings.options}
        self.trusted = self.option["trust"] == "yes"
        """Whether to load its weights even though loading can run code."""
        self.weights = ""
        """An identifier of its weights, such as the start of a hash."""
        self.classes: tuple[str, ...] = ()
        """The structures that it segments by name, for systems without clicks."""
        self.progress: Callable[[float], None] = lambda share: None
        """Reports the progress 0..1 of the current request."""

    @abstractmethod
    def set_volume(self, hu: np.ndarray, spacing: Spacing) -> None:
        """Load a CT (z, y, x), HU, and remove all clicks."""

    @abstractmethod
    def reset(self) -> None:
        """Remove all clicks."""

    @abstractmethod
    def click(self, voxel: Voxel, positive: bool) -> None:
        """Add a click."""

    @abstractmethod
    def mask(self, structure: str | None) -> np.ndarray:
        """The mask of all clicks so far, or of a structure by its name; (z, y, x), not 0 inside."""


def serve(make: Callable[[Settings], System]) -> None:
    """Process requests until standard input ends, then end at once, even during a request."""
    channel = _Channel()
    session: _Session | None = None
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=channel.read_into, args=(requests,), daemon=True).start()
    while True:
        request = requests.get()
        try:
            if request["do"] == "start":
                session = _Session(make, request, channel)
                answer: dict[str, Any] = {
                    "weights": session.system.weights,
                    "classes": list(session.system.classes),
                }
            else:
                assert session is not None
                answer = session.answer(request)
        except Refusal as refusal:
            answer = {"error": str(refusal)}
        except Exception as error:  # whatever a foreign package raises is told to the evaluation, which goes on
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".") + "."}
        channel.say(answer)


class _Session:
    """A running system."""

    def __init__(self, make: Callable[[Settings], System], request: Mapping[str, Any], channel: _Channel) -> None:
        self._folder = Path(request["folder"])
        names = ("weights", "clone", "device", "options")
        self.system = make(Settings(**{name: request[name] for name in names}))
        self.system.progress = lambda share: channel.say({"progress": share})
        self._shape: tuple[int, ...] = ()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Process one request."""
        if request["do"] == "volume":
            hu = np.load(self._folder / request["file"])
            self._shape = hu.shape
            z, y, x = request["spacing"]
            self.system.set_volume(hu, (z, y, x))
        elif request["do"] == "click":
            z, y, x = request["voxel"]
            self.system.click((z, y, x), request["positive"])
        elif request["do"] == "reset":
            self.system.reset()
        elif request["do"] == "mask":
            mask = np.asarray(self.system.mask(request["structure"])) != 0
            if mask.shape != self._shape:
                raise ValueError(f"the mask has the shape {mask.shape}, the volume {self._shape}")
            np.save(self._folder / "mask.npy", mask.astype(np.uint8))
            return {"file": "mask.npy"}
        return {}


class _Channel:
    """Standard input and output, reserved for requests and responses.

    What else is written from now on goes to standard error, and what else reads finds nothing. A process that a package
    forks closes its `sys.stdin`, which would wait for ever for a thread that reads the same object.
    """

    def __init__(self) -> None:
        self._input = os.fdopen(os.dup(0), encoding="utf-8")
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
        sys.stdout = sys.stderr

    def say(self, content: Mapping[str, Any]) -> None:
        self._output.write(json.dumps(content) + "\n")
        self._output.flush()

    def read_into(self, requests: queue.Queue[dict[str, Any]]) -> None:
        """Read requests until input ends, then end the process and its child processes."""
        for line in self._input:
            requests.put(json.loads(line))
        # The evaluation has ended, perhaps killed: nobody waits for what is at work.
        if os.name == "posix" and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)
