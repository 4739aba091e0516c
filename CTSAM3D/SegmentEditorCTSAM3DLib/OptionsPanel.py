"""The effect's options: the widgets, what they show, and the parameters that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from CTSAM3DWidgets.FormWidgets import busyRow, button, checkBox, choose, comboBox, label, radioButton, reachBox, row


class OptionsPanel:
    """Rows of the options frame. It knows parameters and texts, but neither clicks nor masks.

    The effect connects its own slots to the widgets, which are public attributes.
    """

    def __init__(self, scriptedEffect) -> None:
        self.scriptedEffect = scriptedEffect
        self._addClickRows()
        self._addStatusRows()  # near the clicks: in a low window the end of the panel is out of sight
        self._addExtentRows()
        self._addMachineRows()

    # Parameters of the effect's node: what belongs to the scene. The server belongs to the computer, see Settings.

    @staticmethod
    def setDefaults(scriptedEffect) -> None:
        """Give every parameter its value for a new scene."""
        scriptedEffect.setParameterDefault("Reach", "structure")
        scriptedEffect.setParameterDefault("KeepTheRest", 0)
        scriptedEffect.setParameterDefault("KeepRadiusMm", 30.0)
        scriptedEffect.setParameterDefault("NewSegmentPerClick", 0)
        scriptedEffect.setParameterDefault("ShowChange", 1)
        scriptedEffect.setParameterDefault("Model", "ctsam3d-small")

    def showParameters(self) -> None:
        """Show the parameters, without telling anyone that the widgets changed."""
        effect = self.scriptedEffect
        choose(self.reachBox, effect.parameter("Reach"))
        choose(self.modelBox, effect.parameter("Model"))
        for box, name in self._flags:
            wasBlocked = box.blockSignals(True)
            box.setChecked(effect.integerParameter(name) != 0)
            box.blockSignals(wasBlocked)
        wasBlocked = self.radiusBox.blockSignals(True)
        self.radiusBox.value = effect.doubleParameter("KeepRadiusMm")
        self.radiusBox.blockSignals(wasBlocked)
        self.radiusBox.enabled = self.keepBox.checked

    def storeParameters(self) -> None:
        """Write what the widgets show into the parameters."""
        effect = self.scriptedEffect
        effect.setParameter("Reach", self.reachBox.currentData)
        for box, name in self._flags:
            effect.setParameter(name, int(box.checked))
        effect.setParameter("KeepRadiusMm", float(self.radiusBox.value))
        if self.modelBox.currentIndex >= 0:
            effect.setParameter("Model", self.modelBox.currentData)

    def connectParameters(self, slot: Callable[[], None]) -> None:
        """Call `slot()` whenever the user changes an option that is a parameter."""
        for box in (self.reachBox, self.modelBox):
            box.connect("currentIndexChanged(int)", lambda index: slot())
        for box, _name in self._flags:
            box.connect("toggled(bool)", lambda checked: slot())
        self.radiusBox.connect("valueChanged(double)", lambda value: slot())

    # What the effect shows

    def showClicks(self, positive: int, negative: int, canUndo: bool, canRedo: bool) -> None:
        """Say how many clicks the segment has, and what can be done with them."""
        self.countLabel.setText(_("{positive} inside, {negative} outside").format(positive=positive, negative=negative))
        self.undoButton.enabled = canUndo
        self.redoButton.enabled = canRedo
        self.clearButton.enabled = positive + negative > 0

    def showStatus(self, text: str) -> None:
        """Show one line below the clicks."""
        self.statusLabel.setText(text)

    def showWork(self, busy: bool, waiting: bool) -> None:
        """Show the moving bar with its cancel button while a mask is on its way; else a button to ask again for it."""
        self.busyWidget.visible = busy
        self.tryAgainButton.visible = waiting and not busy

    @property
    def nextClickIsPositive(self) -> bool:
        """The sign of a plain left click; Ctrl turns it around."""
        return bool(self.insideButton.checked)

    # Rows

    def _addClickRows(self) -> None:
        self.insideButton = radioButton(
            "Inside",
            _("+ Inside"),
            _("A left click says: this belongs to the segment. Ctrl + left click says the opposite."),
        )
        self.outsideButton = radioButton(
            "Outside",
            _("− Outside"),  # noqa: RUF001 - a minus sign
            _("A left click says: this does not belong to the segment. Key N swaps."),
        )
        self.signGroup = qt.QButtonGroup(self.scriptedEffect.optionsFrame())
        for sign in (self.insideButton, self.outsideButton):
            self.signGroup.addButton(sign)
        self.insideButton.checked = True
        self._addRow(_("Left click:"), self.insideButton, self.outsideButton)

        self.undoButton = button("UndoClick", _("Undo"), _("Take back what was done last to the clicks. Key U."))
        self.redoButton = button("RedoClick", _("Redo"), _("Bring back what was taken back last. Keys Shift + U."))
        self.clearButton = button(
            "ClearClicks", _("Clear"), _("Take all clicks of this segment back, and with them its mask.")
        )
        self._addRow(_("Clicks:"), self.undoButton, self.redoButton, self.clearButton)
        self.countLabel = label("ClickCount")
        self.countLabel.setToolTip(_("Drag a point to move the click; right-click on it to delete it."))
        self._addRow("", self.countLabel)

    def _addExtentRows(self) -> None:
        self.reachBox = reachBox("Reach")
        self._addRow(_("Reach:"), self.reachBox)

        self.keepBox = checkBox(
            "KeepTheRest", _("Keep the rest beyond"), _("A click changes the segment only so near to the click. Key K.")
        )
        self.radiusBox = slicer.qMRMLSpinBox()
        self.radiusBox.setMRMLScene(slicer.mrmlScene)
        self.radiusBox.quantity = "length"
        self.radiusBox.objectName = "CTSAM3DKeepRadius"
        self.radiusBox.minimum = 5
        self.radiusBox.maximum = 200
        self.radiusBox.singleStep = 5
        self.radiusBox.setToolTip(_("How far from the click the segment may change, while the rest is kept."))
        self._addRow("", self.keepBox, self.radiusBox)
        self.newSegmentBox = checkBox(
            "NewSegmentPerClick",
            _("New segment per click"),
            _("For lesions: every click inside starts a segment of its own, clicks outside belong to the latest."),
        )
        self._addRow("", self.newSegmentBox)
        self.showChangeBox = checkBox(
            "ShowChange",
            _("Show what changed"),
            _("For a moment after a click, show in green what it added and in red what it removed."),
        )
        self._addRow("", self.showChangeBox)
        self._flags = (
            (self.keepBox, "KeepTheRest"),
            (self.newSegmentBox, "NewSegmentPerClick"),
            (self.showChangeBox, "ShowChange"),
        )

    def _addMachineRows(self) -> None:
        self.backendBox = comboBox("Backend", _("Where the network runs. Servers are added in the CT-SAM3D module."))
        self._addRow(_("Run on:"), self.backendBox)
        self.modelBox = comboBox("Model", _("The network that answers. Models are added in the CT-SAM3D module."))
        self.moduleButton = button("OpenModule", _("Manage…"), _("Open the CT-SAM3D module: models, servers, batch."))
        self._addRow(_("Model:"), self.modelBox, self.moduleButton)

    def _addStatusRows(self) -> None:
        self.statusLabel = label("Status")
        self.scriptedEffect.addOptionsWidget(self.statusLabel)
        self.busyWidget, self.progressBar, self.cancelButton = busyRow(
            "", _("Stop, and leave the segment as it was. Key C.")
        )
        self.progressBar.setRange(0, 0)  # how far a structure reaches is not known beforehand
        self.progressBar.textVisible = False
        self.scriptedEffect.addOptionsWidget(self.busyWidget)
        self.tryAgainButton = button(
            "TryAgain", _("Try again"), _("Ask once more for the mask of the clicks that have none yet.")
        )
        self.scriptedEffect.addOptionsWidget(self.tryAgainButton)
        self.showWork(busy=False, waiting=False)

    def _addRow(self, text: str, *widgets) -> None:
        self.scriptedEffect.addLabeledOptionsWidget(text, row(*widgets))
