"""Where a workspace's masks are computed: by the network on this computer, or at a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests

from CTSAM3DLib.errors import CTSAM3DError, Problem, ServerError
from CTSAM3DLib.interaction.prediction_worker import Backend
from CTSAM3DLib.remote.connection import Connection, Endpoint, complete_address
from CTSAM3DLib.remote.remote_segmenter import RemoteSegmenter, connect, test_connection
from CTSAM3DServer.web.handover import KnownServer

THIS_COMPUTER = "This computer"
START_S = 200.0
"""Loading a model may take a while."""


@dataclass(frozen=True)
class Front:
    """The process that has started ours; it runs the network that all workspaces share."""

    address: str
    secret: str = field(repr=False)

    def network(self, model: str) -> Endpoint:
        """Where the network with this model is; it is started if it does not run. Raises ServerError."""
        try:
            answer = requests.post(
                f"{self.address}/network",
                json={"model": model},
                headers={"Authorization": f"Bearer {self.secret}"},
                timeout=START_S,
            ).json()
        except (requests.RequestException, ValueError) as error:
            raise ServerError(
                Problem.NOT_STARTED, "The network cannot be asked for; start ctsam3d web anew."
            ) from error
        if "error" in answer:
            raise ServerError(Problem.NOT_STARTED, answer["error"])
        return Endpoint(answer["address"], answer["key"])


@dataclass(frozen=True)
class SharedNetwork:
    """A model on this computer. Equal choices are the same backend."""

    model: str
    front: Front = field(compare=False)

    def load(self) -> Backend:
        """Connect to it; after a crash the front starts another. Raises CTSAM3DError."""
        return RemoteSegmenter.on(Connection(lambda: self.front.network(self.model)), "this computer")


@dataclass(frozen=True)
class ServedModel:
    """A model at a server."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def load(self) -> Backend:
        """Connect to it. Raises CTSAM3DError."""
        return connect(self.address, key=self.key, ca_file=self.ca_file, model=self.model)


class Backends:
    """What a workspace can choose from. Nothing is sent to a server before `agree` was called for it."""

    def __init__(self, front: Front, models: Sequence[str], servers: Sequence[KnownServer]) -> None:
        self._front = front
        self._models = tuple(models)
        self._servers = {server.address: server for server in servers}
        self._agreed = {THIS_COMPUTER}

    def addresses(self) -> list[str]:
        """This computer, and the servers by their addresses."""
        return [THIS_COMPUTER, *self._servers]

    def models(self, address: str) -> list[str]:
        """The models there, as far as known."""
        return list(self._models if address == THIS_COMPUTER else self._servers[address].models)

    def know(self, address: str, model: str) -> None:
        """Offer a server that was used before, with this model; the user has to agree to it anew."""
        if address not in self.addresses():
            self._servers[address] = KnownServer(address=address, models=(model,))

    def has_agreed(self, address: str) -> bool:
        """Whether the user has agreed to send parts of the CT there."""
        return address in self._agreed

    async def agree(self, address: str, key: str | None = None) -> str:
        """The user agrees to send to this server, a new one perhaps; ask it for its models, and return its address.

        Raises CTSAM3DError.
        """
        address = complete_address(address)
        known = self._servers.get(address) or KnownServer(address=address)
        key = key or known.key
        info = await asyncio.to_thread(test_connection, address, key, known.ca_file)
        models = tuple(model.info.name for model in info.models)
        self._servers[address] = known.model_copy(update={"key": key, "models": models})
        self._agreed.add(address)
        return address

    def choice(self, address: str, model: str) -> SharedNetwork | ServedModel:
        """A backend to ask for masks. Raises CTSAM3DError where the user has not agreed to it."""
        if address == THIS_COMPUTER:
            return SharedNetwork(model, self._front)
        if not self.has_agreed(address):
            raise CTSAM3DError(f"Nothing is sent to {address} before you agree; choose it once more.")
        server = self._servers[address]
        return ServedModel(address, model, server.key, server.ca_file)
