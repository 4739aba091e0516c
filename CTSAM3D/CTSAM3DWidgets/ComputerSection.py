"""The panel's section of this computer: what has to be installed, and the server that Slicer starts for itself."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from CTSAM3DLib.checkpoints.model_store import ModelStore
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DWidgets.BackgroundTask import BackgroundTask
from CTSAM3DWidgets.FormWidgets import button, label, row, section
from CTSAM3DWidgets.Requirements import Requirements
from CTSAM3DWidgets.ThisComputer import ThisComputer

REFRESH_MS = 1000


class ComputerSection:
    """Installs requirements; starts, watches and stops the local server."""

    def __init__(self, parentLayout, requirements: Requirements, computer: ThisComputer, store: ModelStore) -> None:
        self._requirements = requirements
        self._computer = computer
        self._store = store
        self._task: BackgroundTask[object] | None = None
        form = section("Computer", _("This computer"), parentLayout)
        self.requirementsLabel = label("Requirements")
        self.installButton = button(
            "Install", _("Install"), _("Install what segmenting on this computer needs, after asking you once.")
        )
        form.addRow(_("Packages:"), self.requirementsLabel)
        form.addRow("", self.installButton)
        self.serverLabel = label("LocalServer")
        form.addRow(_("Network:"), self.serverLabel)
        self.startButton = button("StartServer", _("Start"), _("Start it now, so that the first click need not wait."))
        self.stopButton = button("StopServer", _("Stop"), _("Stop it and free its memory. The next click starts it."))
        form.addRow("", row(self.startButton, self.stopButton))
        self.installButton.connect("clicked()", self.onInstall)
        self.startButton.connect("clicked()", self.onStart)
        self.stopButton.connect("clicked()", self.onStop)
        self._timer = qt.QTimer()
        self._timer.setInterval(REFRESH_MS)
        self._timer.connect("timeout()", self._showServer)
        self._showServer()

    def enter(self) -> None:
        """The panel is shown: look what is installed, and watch the server."""
        self.showRequirements()
        self._showServer()
        self._timer.start()

    def exit(self) -> None:
        """The panel is hidden."""
        self._timer.stop()

    def close(self) -> None:
        """The panel goes; the server stays for the effect."""
        self.exit()
        if self._task is not None:
            self._task.cancel()

    def showRequirements(self) -> None:
        """Say what is missing."""
        missing = self._requirements.missing()
        self.requirementsLabel.setText(
            _("missing: {packages}").format(packages=", ".join(missing)) if missing else _("everything is installed")
        )
        self.installButton.visible = bool(missing)

    def onInstall(self) -> None:
        """Ask, and install."""
        try:
            self._requirements.install(self._requirements.missing())
        except CTSAM3DError as error:
            self.requirementsLabel.setText(str(error))
            return
        self.showRequirements()

    def onStart(self) -> None:
        """Start the server with the bundled model."""
        try:
            self._requirements.ensure()
        except CTSAM3DError as error:
            self.serverLabel.setText(str(error))
            return
        weights = str(self._store.models()[0].path)
        self._task = BackgroundTask(
            lambda report, cancel: self._computer.segmenter(weights),
            onDone=lambda segmenter: self._showServer(),
            onFailed=self._onNotStarted,
        )
        self._showServer()

    def onStop(self) -> None:
        """Stop the server, also while it starts."""
        if self._task is not None:
            self._task.cancel()
        self._computer.stop()
        self._showServer()

    def _onNotStarted(self, error: CTSAM3DError) -> None:
        self._showServer()
        self.serverLabel.setText(str(error))

    def _showServer(self) -> None:
        running = self._computer.running()
        starting = self._task is not None and self._task.running()
        if starting:
            self.serverLabel.setText(self._computer.lastMessage() or _("starting…"))
        else:
            self.serverLabel.setText(_("ready") if running else _("not started; the first click starts it"))
        self.startButton.enabled = not (running or starting)
        self.stopButton.enabled = running or starting
