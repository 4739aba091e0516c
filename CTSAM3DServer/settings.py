"""Settings of a server, and the checks that keep a new server from being open to the world."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DLib.remote.protocol import DEFAULT_PORT
from CTSAM3DServer.keys import KeyFile

MIN_MEMORY = 256 * 2**20
"""Bytes. Several times the tiles and features of one inference step."""


class SettingsError(CTSAM3DError):
    """The server cannot start with these settings."""


@dataclass(frozen=True)
class Settings:
    """The options of `ctsam3d serve`."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0: any free one."""
    models: tuple[str, ...] = ("ctsam3d-small",)
    """Names of bundled models, or files of weights."""
    device: str | None = None
    memory: int = 4 * 2**30
    """Bytes for the caches of tiles, features and masks."""
    keys_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def check(self) -> None:
        """Raise SettingsError unless a server may start with these settings."""
        if self.memory < MIN_MEMORY:
            raise SettingsError(f"The server needs at least {MIN_MEMORY // 2**20} MiB of memory for its caches.")
        if self.keys_file is not None and not KeyFile(self.keys_file).entries:
            raise SettingsError(f"{self.keys_file} holds no key; make one with: ctsam3d serve keys add NAME.")
        tls_context(self.tls_cert, self.tls_key)
        if self.keys_file is None and not is_loopback(self.host):
            raise SettingsError(
                f"Without keys the server listens on this computer only, not on {self.host}; make a key with "
                "ctsam3d serve keys add NAME, and give --keys-file."
            )

    @property
    def unencrypted(self) -> bool:
        """Whether keys and images cross a network unencrypted, unless a reverse proxy encrypts them."""
        return self.tls_cert is None and not is_loopback(self.host)


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What a server that shows this certificate (PEM) speaks TLS by; None without one. Raises SettingsError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError("TLS needs both the certificate and its key; give --tls-cert and --tls-key.")
    for path in (certificate, key):
        if not path.is_file():
            raise SettingsError(f"There is no file {path}; check the path.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: a protected key is then an error, not a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SettingsError(
            f"{certificate} and {key} are not a certificate and its unprotected key in PEM form; check both files."
        ) from error
    return context
