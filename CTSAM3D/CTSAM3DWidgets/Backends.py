"""The library's backends with Slicer's settings, installations and questions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from slicer.i18n import tr as _

from CTSAM3DLib.checkpoints.model_store import ModelStore
from CTSAM3DLib.interaction import backends
from CTSAM3DLib.interaction.backends import THIS_COMPUTER, LocalBackend, ServerBackend
from CTSAM3DLib.interaction.prediction_worker import Backend
from CTSAM3DWidgets.Consent import ensureConsent
from CTSAM3DWidgets.Requirements import Requirements
from CTSAM3DWidgets.Settings import Settings
from CTSAM3DWidgets.ThisComputer import ThisComputer


class StoredModels:
    """The user's and the bundled models, in servers that Slicer starts; a `Computer` of the library."""

    def __init__(self, computer: ThisComputer) -> None:
        self._computer = computer

    def models(self) -> Sequence[str]:
        """Their names."""
        return [model.name for model in ModelStore().models()]

    def segmenter(self, model: str) -> Backend:
        """A segmenter with this model; starts its server. Raises CTSAM3DError."""
        return self._computer.segmenter(self.weights(model))

    def progress(self, model: str) -> str:
        """What to tell the user while the server starts."""
        if self._computer.running(self.weights(model)):
            return ""
        return self._computer.lastMessage() or _("Starting the network on this computer…")

    def weights(self, model: str) -> str:
        """The file of a model. Raises ModelError where there is none of this name."""
        return str(ModelStore().find(model).path)


class Backends(backends.Backends):
    """The backends of this application."""

    def __init__(self, settings: Settings, requirements: Requirements, computer: ThisComputer) -> None:
        self.settings = settings
        self.requirements = requirements
        self.computer = computer
        self._stored = StoredModels(computer)
        super().__init__(self._stored, lambda: [server.known() for server in settings.servers()])

    def choices(self) -> list[tuple[str, str]]:
        """(text, address) of every backend; this computer first."""
        return [(_(address) if address == THIS_COMPUTER else address, address) for address in self.addresses()]

    def store(self) -> ModelStore:
        """The models on this computer."""
        return ModelStore()

    def ready(self, address: str, model: str) -> LocalBackend | ServerBackend:
        """The backend, once what it needs is installed and the user has agreed to send to it.

        May ask the user, once. Raises CTSAM3DError with what to do.
        """
        server = self.settings.server(address)
        if server is None:
            self._stored.weights(model)
            self.requirements.ensure()
        else:
            self.requirements.ensure(forServers=True)
            ensureConsent(server, self.settings)
        return self.choice(address, model)


@functools.cache
def applicationBackends() -> Backends:
    """The one that all segment editors and the module share."""
    return Backends(Settings(), Requirements(), ThisComputer())
