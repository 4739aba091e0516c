"""The panel's section of batches: a list of points, or a table of clicks, becomes one segment after another."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError, VolumeError
from CTSAM3DLib.mrml.clicks import read_labelled_points, read_table_node
from CTSAM3DLib.mrml.predictor import Failed, Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from CTSAM3DWidgets.Backends import Backends
from CTSAM3DWidgets.FormWidgets import busyRow, button, choose, comboBox, label, reachBox, say, section, setChoices
from CTSAM3DWidgets.PredictionDriver import PredictionDriver

REACH = "Reach"
VOLUME, CLICKS, SEGMENTATION = "BatchVolume", "BatchClicks", "BatchSegmentation"
"""Names of the parameter node's attribute and of its node references."""


class BatchSection:
    """Segments from clicks that are there already. The choices are kept in the module's parameter node."""

    def __init__(self, parentLayout, backends: Backends, logic) -> None:
        self._backends = backends
        self._logic = logic
        self._driver = PredictionDriver(self._onOutcome, self._finish)
        self._writer: LogicSegmentWriter | None = None
        self._names: dict[str, str] = {}
        self._lines: list[str] = []
        form = section("Batch", _("Batch"), parentLayout)
        self._addSelectors(form)
        self._addRunRows(form)
        for selector in (self.volumeSelector, self.clicksSelector, self.segmentationSelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._storeParameters())
        self.reachBox.connect("currentIndexChanged(int)", lambda index: self._storeParameters())
        self.backendBox.connect("currentIndexChanged(int)", lambda index: self._onBackendChanged())
        self.runButton.connect("clicked()", self.onRun)
        self.cancelButton.connect("clicked()", self.onCancel)
        self._showBusy()

    # Life of the panel

    def enter(self) -> None:
        """The panel is shown: take over what the scene says, and servers and models that came meanwhile."""
        setChoices(self.backendBox, self._backends.choices())
        choose(self.backendBox, self._backends.settings.backend)
        self._showModels()
        self._showParameters()

    def sceneCloses(self) -> None:
        """The nodes go: stop."""
        self._finish()

    def close(self) -> None:
        """The panel goes."""
        self._finish()
        self._driver.close()

    # What the user does

    def onRun(self) -> None:
        """Ask for the masks of all segments that the clicks name."""
        self._lines = []
        try:
            self._start()
        except CTSAM3DError as error:
            say(self.statusLabel, str(error))
        if not self._driver.busy():
            self._finish()
        self._showBusy()

    def onCancel(self) -> None:
        """Stop; segments that are done stay."""
        self._driver.cancel()
        self._finish()
        self._tell(_("Cancelled; what is done stays."))

    # How it goes

    def _start(self) -> None:
        volumeNode, segmentationNode = self.volumeSelector.currentNode(), self.segmentationSelector.currentNode()
        if volumeNode is None or self.clicksSelector.currentNode() is None:
            raise VolumeError(_("Choose a CT, and a list of points or a table of clicks."))
        choice = self._backends.ready(self.backendBox.currentData, self.modelBox.currentData or "")
        if segmentationNode is None:
            segmentationNode = self._logic.addSegmentation(volumeNode)
            self.segmentationSelector.setCurrentNode(segmentationNode)
        clicks = self._clicks(segmentationNode)
        self._writer = LogicSegmentWriter(slicer.mrmlScene, segmentationNode, volumeNode)
        self._names = {}
        self.progressBar.setRange(0, len(clicks))
        self.progressBar.setValue(0)
        for name, ofSegment in clicks.items():
            segmentID, isNew = self._segment(segmentationNode, name)
            target = Target(segmentationNode, segmentID, volumeNode)
            self._names[segmentID] = name
            try:
                self._driver.predict(choice, target, ofSegment, self._writer, self.reachBox.currentData, None)
            except CTSAM3DError as error:  # one segment's clicks must not keep the others from their masks
                self._tellOf(target, str(error))
                if isNew:
                    segmentationNode.GetSegmentation().RemoveSegment(segmentID)
        self._tell(_("{count} segments").format(count=len(clicks)))

    def _clicks(self, segmentationNode) -> dict[str, list[Click]]:
        node = self.clicksSelector.currentNode()
        read = read_table_node if node.IsA("vtkMRMLTableNode") else read_labelled_points
        return read(node, segmentationNode)

    def _segment(self, segmentationNode, name: str) -> tuple[str, bool]:
        """The ID of the segment of this name, and whether it was made because there was none."""
        segmentation = segmentationNode.GetSegmentation()
        known = segmentation.GetSegmentIdBySegmentName(name)
        return (known, False) if known else (segmentation.AddEmptySegment("", name), True)

    def _onOutcome(self, outcome) -> None:
        if isinstance(outcome, Written):
            self._tellOf(outcome.target, _("{volume:.1f} mL added").format(volume=outcome.change.added_ml))
        elif isinstance(outcome, Failed):
            self._tellOf(outcome.target, str(outcome.error))

    def _tellOf(self, target: Target, text: str) -> None:
        self.progressBar.setValue(self.progressBar.value + 1)
        self._tell(f"{self._names[target.segment_id]}: {text}")

    def _tell(self, line: str) -> None:
        self._lines.append(line)
        say(self.statusLabel, "\n".join(self._lines))

    def _finish(self) -> None:
        self._driver.leave()
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._showBusy()

    # What is shown and kept

    def _showParameters(self) -> None:
        node = self._logic.getParameterNode()
        for selector, name in self._selectors:
            wasBlocked = selector.blockSignals(True)
            if node.GetNodeReference(name) is not None:
                selector.setCurrentNode(node.GetNodeReference(name))
            selector.blockSignals(wasBlocked)
        choose(self.reachBox, node.GetParameter(REACH) or "structure")

    def _storeParameters(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsBatchProcessing():
            return
        node = self._logic.getParameterNode()
        for selector, name in self._selectors:
            node.SetNodeReferenceID(name, selector.currentNodeID or None)
        node.SetParameter(REACH, self.reachBox.currentData)

    def _onBackendChanged(self) -> None:
        self._backends.settings.backend = self.backendBox.currentData
        self._showModels()

    def _showModels(self) -> None:
        setChoices(self.modelBox, [(name, name) for name in self._backends.models(self.backendBox.currentData)])
        if self.modelBox.currentIndex < 0:
            self.modelBox.setCurrentIndex(0)

    def _showBusy(self) -> None:
        busy = self._driver.busy()
        self.busyWidget.visible = busy
        self.runButton.enabled = not busy

    # Rows

    def _addSelectors(self, form) -> None:
        self.volumeSelector = _selector("BatchVolume", ["vtkMRMLScalarVolumeNode"], _("The CT to segment."))
        self.clicksSelector = _selector(
            "BatchClicks",
            ["vtkMRMLMarkupsFiducialNode", "vtkMRMLTableNode"],
            _(
                "Points whose labels name their segment (liver, or -liver for what does not belong to it), or a table "
                "with the columns segment, r, a, s and sign."
            ),
        )
        self.segmentationSelector = _selector(
            "BatchSegmentation", ["vtkMRMLSegmentationNode"], _("Where the segments go; None makes a new one.")
        )
        self.segmentationSelector.noneEnabled = True
        self._selectors = (
            (self.volumeSelector, VOLUME),
            (self.clicksSelector, CLICKS),
            (self.segmentationSelector, SEGMENTATION),
        )
        form.addRow(_("Volume:"), self.volumeSelector)
        form.addRow(_("Clicks:"), self.clicksSelector)
        form.addRow(_("Segmentation:"), self.segmentationSelector)

    def _addRunRows(self, form) -> None:
        self.reachBox = reachBox("BatchReach")
        form.addRow(_("Reach:"), self.reachBox)
        self.backendBox = comboBox("BatchBackend", _("Where the network runs."))
        form.addRow(_("Run on:"), self.backendBox)
        self.modelBox = comboBox("BatchModel", _("The network that answers."))
        form.addRow(_("Model:"), self.modelBox)
        self.busyWidget, self.progressBar, self.cancelButton = busyRow("Batch", _("Stop; segments that are done stay."))
        form.addRow(self.busyWidget)
        self.statusLabel = label("BatchStatus")
        form.addRow(self.statusLabel)
        say(self.statusLabel, "")
        self.runButton = button("RunBatch", _("Apply"), _("Segment all structures that the clicks name."))
        form.addRow(self.runButton)


def _selector(name: str, nodeTypes: list[str], toolTip: str):
    selector = slicer.qMRMLNodeComboBox()
    selector.objectName = "CTSAM3D" + name
    selector.nodeTypes = nodeTypes
    selector.addEnabled = False
    selector.removeEnabled = False
    selector.noneEnabled = False
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setToolTip(toolTip)
    return selector
