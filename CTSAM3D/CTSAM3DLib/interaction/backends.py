"""Where masks are computed: by a model on this computer, or at one of the user's servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.interaction.prediction_worker import Backend

THIS_COMPUTER = "This computer"
"""The address of what is no server."""


class BackendChoice(Protocol):
    """A backend with its model that the user has chosen, not yet loaded. Equal choices are the same backend."""

    def load(self) -> Backend:
        """Make it ready, on the prediction's thread. Raises CTSAM3DError."""

    def progress(self) -> str:
        """What to tell the user while it gets ready; empty once it is."""


class Computer(Protocol):
    """The models of this computer."""

    def models(self) -> Sequence[str]:
        """Their names; the first is chosen at the beginning."""

    def segmenter(self, model: str) -> Backend:
        """A segmenter with this model, whose network is started if it does not run. Raises CTSAM3DError."""

    def progress(self, model: str) -> str:
        """What to tell the user while that network starts; empty once it runs."""


@dataclass(frozen=True)
class KnownServer:
    """A server that can be chosen."""

    address: str
    key: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    """PEM file with the certificate of whoever vouches for the server; None: whom the system trusts."""
    models: tuple[str, ...] = ()
    """What it offers, as far as known; the server is asked when the user agrees to it."""
    agreed: bool = False
    """Whether the user has agreed to send parts of the CT there."""


@dataclass(frozen=True)
class LocalBackend:
    """A model on this computer."""

    model: str
    computer: Computer = field(compare=False, repr=False)

    def load(self) -> Backend:
        """Start its network; runs on the prediction's thread. Raises CTSAM3DError."""
        return self.computer.segmenter(self.model)

    def progress(self) -> str:
        """What to tell the user while the network starts."""
        return self.computer.progress(self.model)


@dataclass(frozen=True)
class ServerBackend:
    """A model at a server."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def load(self) -> Backend:
        """Connect; runs on the prediction's thread. Raises CTSAM3DError."""
        from CTSAM3DLib.remote.remote_segmenter import connect  # needs packages that a fresh Slicer does not have

        return connect(self.address, key=self.key, ca_file=self.ca_file, model=self.model)

    def progress(self) -> str:
        """Nothing: a server either answers or does not."""
        return ""


class Backends:
    """The backends that a user can choose from. Nothing is sent to a server before the user has agreed to it.

    `servers()` gives those that are known now, in their order.
    """

    def __init__(self, computer: Computer, servers: Callable[[], Sequence[KnownServer]]) -> None:
        self._computer = computer
        self._servers = servers

    def addresses(self) -> list[str]:
        """This computer, and the servers by their addresses."""
        return [THIS_COMPUTER, *(server.address for server in self._servers())]

    def server(self, address: str) -> KnownServer | None:
        """The server at this address; None for this computer, and where none is known."""
        return next((server for server in self._servers() if server.address == address), None)

    def models(self, address: str) -> list[str]:
        """The names of the models there, as far as known without asking it."""
        server = self.server(address)
        return list(self._computer.models() if server is None else server.models)

    def has_agreed(self, address: str) -> bool:
        """Whether the user has agreed to send parts of the CT there."""
        server = self.server(address)
        return address == THIS_COMPUTER or (server is not None and server.agreed)

    def choice(self, address: str, model: str) -> LocalBackend | ServerBackend:
        """A backend to ask for masks. Raises CTSAM3DError where it is not known or the user has not agreed to it."""
        if address == THIS_COMPUTER:
            return LocalBackend(model, self._computer)
        server = self.server(address)
        if server is None:
            raise CTSAM3DError(f"There is no server {address} any more; choose another one.")
        if not server.agreed:
            raise CTSAM3DError(f"Nothing is sent to {address} before you agree; choose it once more.")
        if model not in server.models:
            raise CTSAM3DError(f"{address} does not offer the model {model}; choose another one.")
        return ServerBackend(address, model, server.key, server.ca_file)
