"""The network on this computer, in a process of its own: a crash there never takes Slicer along."""

from __future__ import annotations

import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from CTSAM3DLib.interaction.prediction_worker import Backend

if TYPE_CHECKING:  # it needs packages that a fresh Slicer does not have
    from CTSAM3DLib.remote.local_server import LocalServer

KEPT_MESSAGES = 20


class ThisComputer:
    """The servers on loopback that this application has started, one for each model in use.

    Safe across threads: predictions start a server from their own thread, the panel looks and stops from the main one.
    `makeServer(weights)` is for tests.
    """

    def __init__(self, makeServer: Callable[[str], LocalServer] | None = None) -> None:
        self._makeServer = makeServer or _localServer
        self._servers: dict[str, LocalServer] = {}
        self._messages: deque[str] = deque(maxlen=KEPT_MESSAGES)
        self._lock = threading.Lock()

    def segmenter(self, weights: str) -> Backend:
        """A segmenter with the model in this file; starts its server, which takes a while. Raises CTSAM3DError."""
        with self._lock:
            server = self._servers.get(weights) or self._makeServer(weights)
            self._servers[weights] = server
        server.start(progress=self._messages.append)
        return server.connect()

    def running(self, weights: str | None = None) -> bool:
        """Whether the server of this model is there, or any."""
        with self._lock:
            return any(server.running for file, server in self._servers.items() if weights in (None, file))

    def lastMessage(self) -> str:
        """What a server said last while it started; empty if none did."""
        return self._messages[-1] if self._messages else ""

    def stop(self) -> None:
        """Stop all servers. What waits for one of them fails, and starts it again at the next try."""
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        for server in servers:
            server.stop()


def _localServer(weights: str) -> LocalServer:
    from CTSAM3DLib.remote.local_server import LocalServer

    # In Slicer, sys.executable may be the application; PythonSlicer is its interpreter.
    return LocalServer(shutil.which("PythonSlicer") or sys.executable, [weights])
