"""The library's backends for a workspace: networks that all workspaces share, and servers that the user agrees to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import requests

from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.interaction import backends
from CTSAM3DLib.interaction.backends import KnownServer
from CTSAM3DLib.interaction.prediction_worker import Backend
from CTSAM3DLib.loopback import Session
from CTSAM3DLib.remote.connection import Connection, Endpoint, complete_address
from CTSAM3DLib.remote.remote_segmenter import RemoteSegmenter, test_connection

START_S = 200.0
"""Loading a model may take a while."""


@dataclass(frozen=True)
class Front:
    """The process that started ours, and that runs the networks of all workspaces: a `Computer` of the library."""

    address: str
    secret: str = field(repr=False)
    names: tuple[str, ...] = ()
    """Of the models that it has."""

    def models(self) -> Sequence[str]:
        """Their names."""
        return self.names

    def segmenter(self, model: str) -> Backend:
        """A segmenter with this model; after a crash of its network the front starts another. Raises CTSAM3DError."""
        return RemoteSegmenter.on(Connection(lambda: self.network(model)), "this computer")

    def progress(self, model: str) -> str:
        """Nothing: the front starts its first network before anybody asks for it."""
        return ""

    def network(self, model: str) -> Endpoint:
        """Where the network with this model is; it is started if it does not run. Raises ServerError."""
        try:
            with Session() as session:
                answer = session.post(
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


class Backends(backends.Backends):
    """What a workspace can choose from; servers come in, and are agreed to, while it runs."""

    def __init__(self, front: Front, servers: Sequence[KnownServer]) -> None:
        self._known = {server.address: server for server in servers}
        super().__init__(front, lambda: list(self._known.values()))

    def know(self, address: str, model: str) -> None:
        """Offer a server that was used before, with this model; the user has to agree to it anew."""
        if address not in self.addresses():
            self._known[address] = KnownServer(address, models=(model,))

    async def agree(self, address: str, key: str | None = None) -> str:
        """The user agrees to send to this server, a new one perhaps; ask it for its models, and return its address.

        Raises CTSAM3DError.
        """
        address = complete_address(address)
        known = self.server(address) or KnownServer(address)
        key = key or known.key
        info = await asyncio.to_thread(test_connection, address, key, known.ca_file)
        models = tuple(model.info.name for model in info.models)
        self._known[address] = replace(known, key=key, models=models, agreed=True)
        return address
