"""What belongs to this computer and not to a scene: servers with their keys and consents, and the chosen backend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import qt

from CTSAM3DLib.interaction.backends import THIS_COMPUTER, KnownServer

SERVERS_KEY = "CTSAM3D/Servers"
BACKEND_KEY = "CTSAM3D/Backend"


@dataclass(frozen=True)
class Server:
    """A server that the user entered. The key stays in the application's settings file and never enters a scene."""

    address: str
    key: str = ""
    caFile: str = ""
    """Certificates of the institution, in PEM; empty for the usual ones."""
    consented: bool = False
    """The user agreed that parts of CTs are sent to this address."""
    models: tuple[str, ...] = ()
    """What the server offered at the last connection test."""

    def known(self) -> KnownServer:
        """The server as the library knows it; the names here are those of the settings file."""
        return KnownServer(self.address, self.key or None, self.caFile or None, self.models, self.consented)


class Settings:
    """Typed access to the application's settings.

    Everything is read anew at each call, so several panels never disagree. `store` is for tests; by default it is the
    application's own QSettings.
    """

    def __init__(self, store=None) -> None:
        self._store = qt.QSettings() if store is None else store

    @property
    def backend(self) -> str:
        """The address of the chosen server, or THIS_COMPUTER; also where the chosen server is no longer listed."""
        address = str(self._store.value(BACKEND_KEY, THIS_COMPUTER) or THIS_COMPUTER)
        return address if self.server(address) is not None else THIS_COMPUTER

    @backend.setter
    def backend(self, address: str) -> None:
        self._store.setValue(BACKEND_KEY, address)

    def servers(self) -> list[Server]:
        """All servers, in the order they were added; none where the setting cannot be read."""
        try:
            entries = json.loads(str(self._store.value(SERVERS_KEY, "[]") or "[]"))
            return [Server(**{**entry, "models": tuple(entry["models"])}) for entry in entries]
        except (ValueError, TypeError, KeyError):
            return []  # written by hand or by another version: the user enters the servers again

    def server(self, address: str) -> Server | None:
        """The server at this address."""
        return next((server for server in self.servers() if server.address == address), None)

    def saveServer(self, server: Server) -> None:
        """Add a server, or change the one with its address."""
        servers = self.servers()
        addresses = [known.address for known in servers]
        if server.address in addresses:
            servers[addresses.index(server.address)] = server
        else:
            servers.append(server)
        self._saveServers(servers)

    def removeServer(self, address: str) -> None:
        """Forget a server, its key and the consent."""
        self._saveServers([server for server in self.servers() if server.address != address])

    def setConsent(self, address: str, consented: bool) -> None:
        """Note whether parts of CTs may be sent to this server. An unknown address changes nothing."""
        server = self.server(address)
        if server is not None:
            self.saveServer(replace(server, consented=consented))

    def _saveServers(self, servers: Sequence[Server]) -> None:
        self._store.setValue(SERVERS_KEY, json.dumps([asdict(server) for server in servers]))
