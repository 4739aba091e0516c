"""The panel's section of servers: their addresses and keys, a test of the connection, and consent for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ctk
import qt
from slicer.i18n import tr as _

from CTSAM3DLib.errors import CTSAM3DError, Problem, ServerError
from CTSAM3DWidgets.BackgroundTask import BackgroundTask
from CTSAM3DWidgets.FormWidgets import (
    button,
    checkBox,
    choose,
    comboBox,
    label,
    lineEdit,
    row,
    say,
    section,
    setChoices,
)
from CTSAM3DWidgets.Requirements import Requirements
from CTSAM3DWidgets.Settings import Server, Settings

if TYPE_CHECKING:  # it needs a package that a fresh Slicer does not have
    from CTSAM3DLib.remote.remote_segmenter import ServerInfo

NEW_SERVER = ""
_KEPT_ON_FAILURE = (Problem.CLOSED_PORT, Problem.TIMEOUT, Problem.LOST, Problem.BUSY, Problem.PROXY)
"""What may pass by itself. Until it does, a server keeps the models that it offered last."""


class ServersSection:
    """Adds, tests and forgets servers. Nothing of a CT is sent from here."""

    def __init__(self, parentLayout, settings: Settings, requirements: Requirements) -> None:
        self._settings = settings
        self._requirements = requirements
        self._task: BackgroundTask[ServerInfo] | None = None
        form = section("Servers", _("Servers"), parentLayout)
        self.serverBox = comboBox("Server", _("A server that you have entered, or a new one."))
        form.addRow(_("Server:"), self.serverBox)
        self.addressEdit = lineEdit(
            "ServerAddress",
            "gpu.example.org:8900",
            _("Where the server is; without http:// or https://, https is meant, and http on this computer."),
        )
        form.addRow(_("Address:"), self.addressEdit)
        self.keyEdit = lineEdit(
            "ServerKey",
            _("from the server's operator"),
            _("Your key. It is kept in Slicer's settings on this computer, never in a scene."),
        )
        self.keyEdit.echoMode = qt.QLineEdit.Password
        form.addRow(_("Key:"), self.keyEdit)
        self.certificateEdit = ctk.ctkPathLineEdit()
        self.certificateEdit.objectName = "CTSAM3DServerCertificate"
        self.certificateEdit.filters = ctk.ctkPathLineEdit.Files
        self.certificateEdit.setToolTip(
            _("A PEM file, where your institution signs its servers itself. Usually empty.")
        )
        form.addRow(_("Certificates:"), self.certificateEdit)
        self.consentBox = checkBox(
            "ServerConsent",
            _("Parts of my CTs may be sent to this server"),
            _("Without this you are asked at the first click. Uncheck it to be asked again."),
        )
        form.addRow("", self.consentBox)
        self.testButton = button(
            "TestServer", _("Test and save"), _("See whether the server answers, which models it has, and keep it.")
        )
        self.removeButton = button("RemoveServer", _("Remove"), _("Forget this server, its key and your consent."))
        form.addRow("", row(self.testButton, self.removeButton))
        self.statusLabel = label("ServerStatus")
        form.addRow(self.statusLabel)
        say(self.statusLabel, "")

        self.serverBox.connect("currentIndexChanged(int)", lambda index: self._showChosen())
        self.testButton.connect("clicked()", self.onTest)
        self.removeButton.connect("clicked()", self.onRemove)
        self.consentBox.connect("toggled(bool)", self.onConsent)
        self.refresh()

    def refresh(self) -> None:
        """Show the servers that there are now."""
        servers = [(server.address, server.address) for server in self._settings.servers()]
        setChoices(self.serverBox, [*servers, (_("New server…"), NEW_SERVER)])
        if self.serverBox.currentIndex < 0:
            self.serverBox.setCurrentIndex(0)
        self._showChosen()

    def close(self) -> None:
        """Hear no more of a test that runs."""
        if self._task is not None:
            self._task.cancel()

    def onTest(self) -> None:
        """Ask the server what it is, and keep it if it is one."""
        try:
            self._requirements.ensure(forServers=True)
            from CTSAM3DLib.remote.connection import complete_address
            from CTSAM3DLib.remote.remote_segmenter import test_connection

            address = complete_address(self.addressEdit.text)
        except CTSAM3DError as error:
            say(self.statusLabel, str(error))
            return
        known = self._settings.server(address)
        server = Server(
            address,
            key=self.keyEdit.text.strip(),
            caFile=self.certificateEdit.currentPath,
            consented=self.consentBox.checked,
            models=() if known is None else known.models,
        )
        say(self.statusLabel, _("Asking {address}…").format(address=address))
        self.testButton.enabled = False
        self._task = BackgroundTask(
            lambda report, cancel: test_connection(address, server.key or None, server.caFile or None),
            onDone=lambda info: self._onAnswer(server, info),
            onFailed=lambda error: self._onFailure(server, error),
        )

    def onRemove(self) -> None:
        """Forget the chosen server."""
        address = self.serverBox.currentData
        self._settings.removeServer(address)
        self.refresh()
        say(self.statusLabel, _("{address} is forgotten.").format(address=address))

    def onConsent(self, consented: bool) -> None:
        """Agree, or withdraw; for a new server it counts once that is saved."""
        self._settings.setConsent(self.serverBox.currentData, consented)

    def _onAnswer(self, server: Server, info: ServerInfo) -> None:
        names = tuple(model.info.name for model in info.models)
        self._save(Server(server.address, server.key, server.caFile, server.consented, names))
        say(
            self.statusLabel,
            _("{address} works: version {version}, on {device}, with {models}.").format(
                address=server.address, version=info.version, device=info.device, models=", ".join(names)
            ),
        )

    def _onFailure(self, server: Server, error: CTSAM3DError) -> None:
        """Say what is wrong; a server that may only be asleep is kept."""
        self.testButton.enabled = True
        say(self.statusLabel, str(error))
        if isinstance(error, ServerError) and error.problem in _KEPT_ON_FAILURE:
            self._save(server)
            say(self.statusLabel, _("{error} The server is saved all the same.").format(error=error))

    def _save(self, server: Server) -> None:
        self._settings.saveServer(server)
        self.refresh()
        choose(self.serverBox, server.address)
        self._showChosen()

    def _showChosen(self) -> None:
        server = self._settings.server(self.serverBox.currentData) or Server("")
        self.addressEdit.text = server.address
        self.keyEdit.text = server.key
        self.certificateEdit.currentPath = server.caFile
        wasBlocked = self.consentBox.blockSignals(True)
        self.consentBox.setChecked(server.consented)
        self.consentBox.blockSignals(wasBlocked)
        self.removeButton.enabled = bool(server.address)
        self.testButton.enabled = True
