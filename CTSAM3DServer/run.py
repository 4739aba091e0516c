"""The life of a server: load models, bind the port, serve requests, stop."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DServer.app import create_app
from CTSAM3DServer.header_timeout import HeaderTimeout
from CTSAM3DServer.keys import KeyFile, Keys
from CTSAM3DServer.metrics import Metrics
from CTSAM3DServer.service import Service
from CTSAM3DServer.settings import Settings, SettingsError

MAX_CONNECTIONS = 512
KEPT_ALIVE_S = 60
"""Seconds that an idle connection is kept open for the next click."""
GRACE_S = 10
"""Seconds that running requests may take after the server was told to stop."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 ciphers with forward secrecy; the defaults of early uvicorn include ciphers without encryption."""


def load_models(names: Sequence[str], report: Callable[[str], None]) -> list[TrainedModel]:
    """Load bundled models by name and models from files; `report` gets a line for each. Raises ModelError."""
    models = []
    for name in names:
        report(f"loading {name}")
        models.append(load_model(weights=name) if Path(name).is_file() else load_model(name))
    return models


class Server:
    """Models served at `address`. Raises CTSAM3DError where something in the settings is wrong.

    `keys` replace the settings' file of keys.
    """

    def __init__(self, settings: Settings, models: Sequence[TrainedModel], keys: Keys | None = None) -> None:
        settings.check()
        if keys is None and settings.keys_file is not None:
            keys = KeyFile(settings.keys_file)
        self._socket = _bound(settings.host, settings.port)
        metrics = Metrics()
        self.service = Service(models, settings.device, settings.memory, metrics.inference_step)
        config = uvicorn.Config(
            create_app(self.service, keys, metrics),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            ssl_ciphers=CIPHERS,
            log_config=None,
            access_log=False,  # it would hold volume ids; `Admission` writes the access log
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEPT_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            http=HeaderTimeout,
            ws="none",
        )
        self._uvicorn = uvicorn.Server(config)
        scheme = "http" if settings.tls_cert is None else "https"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.address = f"{scheme}://{host}:{self._socket.getsockname()[1]}"

    def serve(self) -> None:
        """Serve until `stop`, Ctrl-C or SIGTERM; running requests are finished."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `serve` return; may be called from any thread."""
        self._uvicorn.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise SettingsError(f"The host '{host}' is not known; give an address of this computer.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"Port {port} is in use; end what uses it, or choose another by --port.") from error
        raise SettingsError(f"The server cannot listen on {host}:{port} ({error.strerror}).") from error
    # Connections inherit TCP_NODELAY from the listener; asyncio sets it only on sockets that it has opened itself.
    # Without it the body of each response waits 40 ms for the client to acknowledge the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
