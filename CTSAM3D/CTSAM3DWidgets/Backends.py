"""Where predictions are computed: on this computer, or at one of the user's servers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from slicer.i18n import tr as _

from CTSAM3DLib.checkpoints.model_store import ModelStore
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.interaction.prediction_worker import Backend
from CTSAM3DWidgets.Consent import ensureConsent
from CTSAM3DWidgets.Requirements import Requirements
from CTSAM3DWidgets.Settings import THIS_COMPUTER, Settings
from CTSAM3DWidgets.ThisComputer import ThisComputer


@dataclass(frozen=True)
class LocalBackend:
    """A model on this computer. Equal choices are the same backend."""

    weights: str
    """File of the model."""
    computer: ThisComputer = field(compare=False)

    def load(self) -> Backend:
        """Start the server of this computer; runs on the prediction's thread. Raises CTSAM3DError."""
        return self.computer.segmenter(self.weights)

    def progress(self) -> str:
        """What to tell the user while the server starts."""
        if self.computer.running(self.weights):
            return ""
        return self.computer.lastMessage() or _("Starting the network on this computer…")


@dataclass(frozen=True)
class ServerBackend:
    """A model at a server."""

    address: str
    key: str
    caFile: str
    model: str

    def load(self) -> Backend:
        """Connect; runs on the prediction's thread. Raises CTSAM3DError."""
        from CTSAM3DLib.remote.remote_segmenter import connect

        return connect(self.address, key=self.key or None, ca_file=self.caFile or None, model=self.model or None)

    def progress(self) -> str:
        """Nothing: a server either answers or does not."""
        return ""


class Backends:
    """The backends of this application."""

    def __init__(self, settings: Settings, requirements: Requirements, computer: ThisComputer) -> None:
        self.settings = settings
        self.requirements = requirements
        self.computer = computer

    def choices(self) -> list[tuple[str, str]]:
        """(text, address) of every backend; this computer first."""
        return [(_("This computer"), THIS_COMPUTER), *((s.address, s.address) for s in self.settings.servers())]

    def models(self, address: str) -> list[tuple[str, str]]:
        """(text, name) of the models at a backend, as far as known without asking it."""
        server = self.settings.server(address)
        if server is not None:
            return [(name, name) for name in server.models]
        return [(model.name, model.name) for model in self.store().models()]

    def store(self) -> ModelStore:
        """The models on this computer."""
        return ModelStore()

    def ready(self, address: str, model: str) -> LocalBackend | ServerBackend:
        """The backend, once what it needs is installed and the user has agreed to send to it.

        May ask the user, once. Raises CTSAM3DError with what to do.
        """
        server = self.settings.server(address)
        if server is None:
            weights = self.store().find(model).path
            self.requirements.ensure()
            return LocalBackend(str(weights), self.computer)
        self.requirements.ensure(forServers=True)
        ensureConsent(server, self.settings)
        if model not in server.models:
            raise CTSAM3DError(
                _("{address} does not offer the model {model}; choose another one.").format(
                    address=server.address, model=model
                )
            )
        return ServerBackend(server.address, server.key, server.caFile, model)


@functools.cache
def applicationBackends() -> Backends:
    """The one that all segment editors and the module share."""
    return Backends(Settings(), Requirements(), ThisComputer())
