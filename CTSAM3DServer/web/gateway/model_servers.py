"""The networks on this computer that all workspaces share: one process for each model in use."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.remote.connection import Endpoint
from CTSAM3DLib.remote.local_server import LocalServer


class Networks:
    """Models by name, each started when it is first asked for. Safe across threads."""

    def __init__(self, weights: Mapping[str, Path], device: str | None) -> None:
        self._weights = dict(weights)
        self._device = device
        self._servers: dict[str, LocalServer] = {}
        self._lock = threading.Lock()

    def endpoint(self, model: str) -> Endpoint:
        """Where the network with this model listens, running. Waits for it. Raises CTSAM3DError."""
        if model not in self._weights:
            raise ModelError(
                f"There is no model {model!r} on this computer; choose one of: {', '.join(self._weights)}."
            )
        with self._lock:
            server = self._servers.setdefault(
                model, LocalServer(models=[str(self._weights[model])], device=self._device)
            )
        server.start()
        return server.endpoint()

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        for server in servers:
            server.stop()
