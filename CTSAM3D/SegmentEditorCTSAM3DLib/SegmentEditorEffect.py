"""The Segment Editor effect: what Slicer calls, and who does it.

    a view's event -> ViewClicks -> SegmentClicks -> PredictionDriver -> the segment -> SegmentDisplay

The clicks and the mask live in the segment. Whatever changes them, a prediction, the Segment Editor's undo, another
selected segment, a loaded scene, is seen by observers, and `_sync` shows what is there now.
"""

import os

import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DWidgets.Backends import applicationBackends
from CTSAM3DWidgets.FormWidgets import choose, setChoices
from CTSAM3DWidgets.PredictionDriver import PredictionDriver
from CTSAM3DWidgets.Settings import Settings
from SegmentEditorCTSAM3DLib.ChangeDisplay import ChangeDisplay
from SegmentEditorCTSAM3DLib.ClickPoints import ClickPoints
from SegmentEditorCTSAM3DLib.OptionsPanel import OptionsPanel
from SegmentEditorCTSAM3DLib.SegmentClicks import SegmentClicks
from SegmentEditorCTSAM3DLib.SegmentDisplay import SegmentDisplay
from SegmentEditorCTSAM3DLib.Shortcuts import CANCEL, KEEP_THE_REST, REDO_CLICK, SWAP_SIGN, UNDO_CLICK, Shortcuts
from SegmentEditorCTSAM3DLib.ViewClicks import ViewClicks


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect, VTKObservationMixin):
    """One copy of the effect: the application's prototype, or that of one segment editor widget."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "CTSAM3D"  # scripts and saved scenes know it by this name: never translate it
        scriptedEffect.title = _("CT-SAM3D")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        scriptedEffect.showEffectCursorInSliceView = False
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        VTKObservationMixin.__init__(self)
        self.panel = None  # there once setupOptionsFrame was called, which it never is for the prototype

    def clone(self):
        """A copy for another segment editor widget."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
        clonedEffect.setPythonSource(__file__.replace("\\", "/"))
        return clonedEffect

    def icon(self):
        """The picture of the effect's button."""
        return qt.QIcon(os.path.join(os.path.dirname(__file__), "SegmentEditorEffect.png"))

    def helpText(self):
        """What the Segment Editor shows above the options; its first sentence is all that is seen at first."""
        return _(
            """<html>Segment any structure in a CT by clicking on it.<br><p>
<b>Left click</b> inside the structure. <b>Ctrl + left click</b> (Cmd on a Mac) on what does not belong to it. Both
work in slice views, and in 3D views on the surface of a segment. Every further click mends the mask.</p><p>
<b>Drag</b> a point to move a click; <b>right-click</b> on it to delete it. Clicks belong to their segment: they are
saved with it, and the Segment Editor's undo and redo bring back clicks and mask together. The editable area and the
overwrite mode hold as for every effect.</p><p>
<b>Keys:</b> U takes the last click, move or deletion back, Shift+U brings it back, N swaps inside and outside, K keeps
the rest of the segment, C cancels. The Segment Editor's own keys stay as they are.</p><p>
Not for clinical use.</p></html>"""
        )

    # Life of the effect

    def setupOptionsFrame(self):
        """Build the options, once for each clone; the scene's parameter node is not there yet."""
        self.settings = Settings()
        self.backends = applicationBackends()
        self.panel = OptionsPanel(self.scriptedEffect)
        self.driver = PredictionDriver(self.onOutcome, self._syncSoon, self.onWaiting)
        self.segmentClicks = SegmentClicks(self.scriptedEffect, self.driver, self.chosenBackend)
        self.viewClicks = ViewClicks(self.scriptedEffect, self.xyToRas)
        self.points = ClickPoints(slicer.mrmlScene, self.onPointsEdited)
        self.changeDisplay = ChangeDisplay(slicer.mrmlScene)
        self.display = SegmentDisplay(self.panel, self.segmentClicks, self.driver, self.points, self.changeDisplay)
        self.shortcuts = Shortcuts(
            self.scriptedEffect.optionsFrame(),
            {
                UNDO_CLICK: self.onUndoClick,
                REDO_CLICK: self.onRedoClick,
                SWAP_SIGN: self.onSwapSign,
                KEEP_THE_REST: self.onToggleKeep,
                CANCEL: self.onCancel,
            },
        )
        # Segments must not be looked at inside their own events, which also come in bursts.
        self.syncTimer = qt.QTimer()
        self.syncTimer.setSingleShot(True)
        self.syncTimer.setInterval(0)
        self.syncTimer.connect("timeout()", self._sync)
        self._observed = None
        self._connectPanel()
        self._showChoices()

    def activate(self):
        """The user chose the effect, or a scene was loaded in which it is chosen."""
        if self.panel is None:
            return
        self.removeObservers()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        for event in (scene.EndBatchProcessEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self.onSceneModified)
        parameterSetNode = self.scriptedEffect.parameterSetNode()
        if parameterSetNode is not None:
            self.addObserver(parameterSetNode, vtk.vtkCommand.ModifiedEvent, self.onEditorModified)
        self._observed = None
        self._showChoices()
        self.shortcuts.install()
        self.updateGUIFromMRML()
        self._sync()

    def deactivate(self):
        """Another effect is chosen, or the scene closes; may be called twice, and with nodes already gone."""
        if self.panel is None:
            return
        self.removeObservers()
        self.syncTimer.stop()
        self.shortcuts.remove()
        self.driver.leave()
        self.display.hide()
        self._observed = None

    def cleanup(self):
        """The segment editor widget goes. A timer that stays connected would keep it alive."""
        if self.panel is not None:
            self.deactivate()
            self.driver.close()
            self.display.close()
            self.syncTimer.disconnect("timeout()", self._sync)
            self.panel = None
        AbstractScriptedSegmentEditorEffect.cleanup(self)

    def interactionNodeModified(self, interactionNode):
        """Stay active in every mouse mode; clicks are only taken while the left button is free."""

    def sourceVolumeNodeChanged(self):
        """Another CT was chosen; Slicer tells active and other effects alike."""
        if self.panel is not None and self.scriptedEffect.active():
            self._syncSoon()

    def referenceGeometryChanged(self):
        """The segmentation has another grid."""
        self.sourceVolumeNodeChanged()

    # Parameters

    def setMRMLDefaults(self):
        """Give a new scene's parameter node its values."""
        OptionsPanel.setDefaults(self.scriptedEffect)

    def updateGUIFromMRML(self):
        """Parameters changed; Slicer also calls this just before `activate`."""
        if self.panel is not None and self.scriptedEffect.parameterSetNode() is not None:
            self.panel.showParameters()

    def updateMRMLFromGUI(self):
        """The user changed an option."""
        self.panel.storeParameters()

    # What the user does

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        """The mouse or a key in a view; True keeps the event from the view."""
        if self.panel is None or not self._takesClicks(viewWidget) or self.points.underMouse():
            return False
        click, isTaken = self.viewClicks.process(callerInteractor, eventId, viewWidget)
        if click is not None:
            self.onClick(click)
        return isTaken

    def _takesClicks(self, viewWidget):
        """Whether the left button is free: other modes place markups or adjust the window; some editors only show."""
        interactionNode = self.scriptedEffect.viewNode(viewWidget).GetInteractionNode()
        isFree = interactionNode.GetCurrentInteractionMode() == interactionNode.ViewTransform
        return isFree and self.scriptedEffect.optionsFrame().enabled

    def onClick(self, click):
        """A click on a structure in a view."""
        if not self.scriptedEffect.confirmCurrentSegmentVisible():  # the user does not want to change what is hidden
            return
        positive = self.panel.nextClickIsPositive != click.turned
        inNewSegment = self.scriptedEffect.integerParameter("NewSegmentPerClick") != 0
        self._do(lambda: self.segmentClicks.add(click.world, positive, inNewSegment))

    def onPointsEdited(self, clicks):
        """Points were dragged or deleted."""
        self._do(lambda: self.segmentClicks.replace(clicks))

    def onUndoClick(self):
        """Take the last edit of the clicks back."""
        self._do(self.segmentClicks.undo)

    def onRedoClick(self):
        """Take it anew."""
        self._do(self.segmentClicks.redo)

    def onClearClicks(self):
        """Take all clicks away."""
        self._do(self.segmentClicks.clear)

    def onTryAgain(self):
        """Ask for the mask of the clicks that have none."""
        self._do(self.segmentClicks.tryAgain)

    def onCancel(self):
        """Stop what is on its way."""
        if self.driver.busy():
            self.segmentClicks.cancel()
            self.display.showCancelled()
            self._sync()

    def onSwapSign(self):
        """A plain click shall mean the other."""
        button = self.panel.outsideButton if self.panel.nextClickIsPositive else self.panel.insideButton
        button.setChecked(True)

    def onToggleKeep(self):
        """Keep the rest, or no longer."""
        self.panel.keepBox.setChecked(not self.panel.keepBox.checked)

    def onBackendChanged(self):
        """Predictions shall run elsewhere, which offers other models."""
        self.settings.backend = self.panel.backendBox.currentData
        self._showModels()
        if self.panel.modelBox.currentIndex < 0:
            self.panel.modelBox.setCurrentIndex(0)

    def onOpenModule(self):
        """Go to where models and servers are managed."""
        slicer.util.selectModule("CTSAM3D")

    def chosenBackend(self):
        """The backend of the panel. Raises CTSAM3DError where it cannot be asked, or the user does not want it."""
        return self.backends.ready(self.settings.backend, self.scriptedEffect.parameter("Model"))

    # What happened

    def onOutcome(self, outcome):
        """A prediction grew, was written, or failed."""
        self.display.showOutcome(outcome)
        self._syncSoon()

    def onWaiting(self, choice):
        """Nothing has come yet; say so while the backend is only starting."""
        if choice.progress():
            self.panel.showStatus(choice.progress())

    def onEditorModified(self, caller, event):
        """Another segment, segmentation, volume or mask was chosen."""
        self._syncSoon()

    def onSceneModified(self, caller, event):
        """A scene was loaded, or a node was deleted, perhaps the points."""
        self._syncSoon()

    def onSegmentationModified(self, caller, event):
        """A segment changed, by us, by undo or by others, or the segmentation was moved."""
        self._syncSoon()

    def onSegmentationMoved(self, caller, event):
        """A transform was applied: the same clicks lie elsewhere in the world."""
        self.display.forget()
        self._syncSoon()

    def onSceneStartClose(self, caller, event):
        """The nodes go; what was asked and taken back goes with them."""
        self.driver.leave()
        self.segmentClicks.forget()
        self.display.hide()
        self._observed = None

    # How it is shown

    def _do(self, edit):
        """Do something to the clicks, and say in the status line how it went.

        `edit` gives True where it has only dropped what was on its way.
        """
        problem, dropped = "", None
        try:
            dropped = edit()
        except CTSAM3DError as error:
            problem = str(error)
        self._sync()  # first, because it greets a segment that was just made
        if dropped:
            self.display.showCancelled()
        if problem:
            self.panel.showStatus(problem)
        elif self.driver.busy():
            self.panel.showStatus(_("Segmenting…"))

    def _syncSoon(self):
        if self.panel is not None:
            self.syncTimer.start()

    def _sync(self):
        """Look at the segment as it is now, unless the scene is just changing as a whole."""
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsBatchProcessing():
            return
        target = self.segmentClicks.target()
        self._observeSegmentation(None if target is None else target.segmentation_node)
        self.display.refresh()

    def _observeSegmentation(self, segmentationNode):
        if segmentationNode is self._observed:
            return
        self.removeObservers(self.onSegmentationModified)
        self.removeObservers(self.onSegmentationMoved)
        self._observed = segmentationNode
        if segmentationNode is None:
            return
        segmentation = segmentationNode.GetSegmentation()
        for event in (segmentation.SegmentModified, segmentation.SegmentAdded, segmentation.SegmentRemoved):
            self.addObserver(segmentation, event, self.onSegmentationModified)
        self.addObserver(segmentationNode, segmentationNode.TransformModifiedEvent, self.onSegmentationMoved)

    def _connectPanel(self):
        panel = self.panel
        panel.connectParameters(self.updateMRMLFromGUI)
        panel.undoButton.connect("clicked()", self.onUndoClick)
        panel.redoButton.connect("clicked()", self.onRedoClick)
        panel.clearButton.connect("clicked()", self.onClearClicks)
        panel.cancelButton.connect("clicked()", self.onCancel)
        panel.tryAgainButton.connect("clicked()", self.onTryAgain)
        panel.moduleButton.connect("clicked()", self.onOpenModule)
        panel.backendBox.connect("currentIndexChanged(int)", lambda index: self.onBackendChanged())

    def _showChoices(self):
        """Servers and models may have been added in the module since."""
        setChoices(self.panel.backendBox, self.backends.choices())
        choose(self.panel.backendBox, self.settings.backend)
        self._showModels()

    def _showModels(self):
        setChoices(self.panel.modelBox, [(name, name) for name in self.backends.models(self.settings.backend)])
