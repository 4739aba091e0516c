"""The Segment Editor's widget: drives effects as Slicer does, over a real parameter node and editor logic."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from Testing.host.ctk import ctkFittedTextBrowser
from Testing.host.mrml_widgets import qMRMLWidget
from Testing.host.pythonqt import wrapper
from Testing.host.segment_effect import qSlicerSegmentEditorEffectFactory
from Testing.host.views import all_views

_INTERACTION_EVENTS = (
    *(f"{button}Button{action}Event" for button in ("Left", "Middle", "Right") for action in ("Press", "Release")),
    *("LeftButtonDoubleClickEvent", "MouseMoveEvent", "MouseWheelForwardEvent", "MouseWheelBackwardEvent"),
    *("KeyPressEvent", "KeyReleaseEvent", "EnterEvent", "LeaveEvent"),
)


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Chooses segmentation, volume, segment and effect; shows the effect's options; undoes and redoes.

    Effects are cloned when the widget is made, before there is a scene or a parameter node. The parameter node's events
    are held back while the widget follows it. The widget also does what the Segment Editor module does around it when a
    scene closes.
    """

    currentSegmentIDChanged = QtCore.Signal(str)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    segmentationNodeChanged = QtCore.Signal(object)

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMaximumNumberOfUndoStates(10)
        self._node: Any = None
        self._effects: dict[str, Any] = {}
        self._active_effect: Any = None
        self._followed: dict[str, Any] = {"segmentation": None, "volume": None, "segment": "", "geometry": ""}
        self._tags: list[tuple[Any, int]] = []
        self._node_tags: list[tuple[Any, int]] = []
        self._segmentation_tags: list[tuple[Any, int]] = []
        self._view_tags: list[tuple[Any, int]] = []
        self._following = False
        self._help = ctkFittedTextBrowser()
        self._help.setVisible(False)
        self._layout = wrapper(QtWidgets.QVBoxLayout)(self)
        self._layout.addWidget(self._help)
        self._layout.addStretch(1)
        self.updateEffectList()

    # Nodes

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        slicer.app._scene_followers.add(self)
        self._logic.SetMRMLScene(scene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        follow = lambda *_: self.updateWidgetFromMRML()  # noqa: E731
        _observe(self._tags, scene, scene.StartCloseEvent, self._on_start_close)
        _observe(self._tags, scene, scene.EndCloseEvent, self._on_end_close)
        _observe(self._tags, scene, scene.EndBatchProcessEvent, follow)
        interaction_node = slicer.app.applicationLogic().GetInteractionNode()
        _observe(self._tags, interaction_node, vtk.vtkCommand.ModifiedEvent, self._on_interaction_node)
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is self._node:
            return
        _remove_observers(self._node_tags)
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is not None:
            follow = lambda *_: self.updateWidgetFromMRML()  # noqa: E731
            _observe(self._node_tags, node, vtk.vtkCommand.ModifiedEvent, follow)
            _observe(self._node_tags, node, node.EffectParameterModified, self._on_effect_parameter)
            self._give_effects_the_node()
            self.updateWidgetFromMRML()

    def setSegmentationNode(self, node: Any) -> None:
        """Another segmentation deselects the effect first."""
        if node is not self._node.GetSegmentationNode():
            self.setActiveEffect(None)
            self._node.SetAndObserveSegmentationNode(node)

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        if node is not None and self.segmentationNode() is None:
            raise RuntimeError("Slicer refuses a source volume before there is a segmentation.")
        self._node.SetAndObserveSourceVolumeNode(node)

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode()

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._node.SetSelectedSegmentID(segment_id)

    def currentSegmentID(self) -> str:
        return self._node.GetSelectedSegmentID() or ""

    def selectNextSegment(self) -> None:
        self._logic.SelectNextSegment()

    def selectPreviousSegment(self) -> None:
        self._logic.SelectPreviousSegment()

    # Effects

    def updateEffectList(self) -> None:
        """Clone the registered effects that this editor does not have yet."""
        for prototype in qSlicerSegmentEditorEffectFactory.instance().registeredEffects():
            if prototype.name in self._effects:
                continue
            effect = prototype.self().clone()
            effect._editor = self
            self._effects[effect.name] = effect
            if self._node is not None:
                effect.setParameterSetNode(self._node)
                effect._call("setMRMLDefaults")
            effect._call("icon")
            effect._call("setupOptionsFrame")
            effect.optionsFrame().setVisible(False)
            self._layout.insertWidget(self._layout.count() - 1, effect.optionsFrame())

    def availableEffectNames(self) -> list[str]:
        return list(self._effects)

    def effectByName(self, name: str) -> Any:
        return self._effects.get(name)

    def activeEffect(self) -> Any:
        return self._active_effect

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self._effects[name] if name else None)

    def setActiveEffect(self, effect: Any) -> None:
        self._node.SetActiveEffectName(effect.name if effect else "")

    # Undo

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    # Views

    def setupViewObservations(self) -> None:
        """Hand the events of all views on to the active effect."""
        self.removeViewObservations()
        for view_widget in all_views(slicer.app.layoutManager()):
            interactor = view_widget.viewWidget().interactor()
            for event in _INTERACTION_EVENTS:
                self._view_tags.append((interactor, interactor.AddObserver(event, self._hand_on(view_widget), 1.0)))
            view_node = view_widget.mrmlAbstractViewNode()
            _observe(self._view_tags, view_node, vtk.vtkCommand.ModifiedEvent, self._hand_on_view_node(view_widget))

    def removeViewObservations(self) -> None:
        _remove_observers(self._view_tags)

    def _hand_on(self, view_widget: Any) -> Any:
        def deliver(interactor: Any, event: str) -> None:
            if self._active_effect is None:
                return
            event_id = vtk.vtkCommand.GetEventIdFromString(event)
            arguments = (interactor, event_id, view_widget)
            handled = self._active_effect._call("processInteractionEvents", *arguments, default=False)
            if not isinstance(handled, bool):
                raise TypeError(f"processInteractionEvents has to return a bool, not {handled!r}.")
            view_widget.viewWidget()._handled |= handled

        return deliver

    def _hand_on_view_node(self, view_widget: Any) -> Any:
        def deliver(view_node: Any, event: str) -> None:
            if self._active_effect is not None:
                event_id = vtk.vtkCommand.GetEventIdFromString(event)
                self._active_effect._call("processViewNodeEvents", view_node, event_id, view_widget)

        return deliver

    # What the scene tells

    def updateWidgetFromMRML(self) -> None:
        """Bring segmentation, volume, segment, geometry and effect in line with the parameter node."""
        scene = self.mrmlScene()
        if scene is None or scene.IsClosing() or scene.IsBatchProcessing() or self._node is None or self._following:
            return
        self._following = True
        try:
            with slicer.util.NodeModify(self._node):
                self._follow_segmentation()
                self._follow_volume()
                self._follow_segment()
                if self.segmentationNode() and self._differs("geometry", self._logic.GetReferenceImageGeometryString()):
                    self._call_all("referenceGeometryChanged")
                self._follow_active_effect()
        finally:
            self._following = False

    def _differs(self, what: str, now: Any) -> bool:
        before, self._followed[what] = self._followed[what], now
        return before is not now and before != now

    def _follow_segmentation(self) -> None:
        node = self.segmentationNode()
        if not self._differs("segmentation", node):
            return
        _remove_observers(self._segmentation_tags)
        if node is not None:
            follow = lambda *_: self.updateWidgetFromMRML()  # noqa: E731
            for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
                _observe(self._segmentation_tags, node, event, follow)
            reference_volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
            self._node.SetAndObserveSourceVolumeNode(reference_volume)
            node.CreateDefaultDisplayNodes()
            if node.GetSegmentation().GetNumberOfSegments() > 0:
                self._node.SetSelectedSegmentID(node.GetSegmentation().GetNthSegmentID(0))
        self.segmentationNodeChanged.emit(node)

    def _follow_volume(self) -> None:
        if self.segmentationNode() is not None and self._differs("volume", self.sourceVolumeNode()):
            self.sourceVolumeNodeChanged.emit(self.sourceVolumeNode())
            self._call_all("sourceVolumeNodeChanged")
            self._call_all("masterVolumeNodeChanged")

    def _follow_segment(self) -> None:
        """A segment that is gone leaves none selected, and that deselects an effect on segments."""
        node = self.segmentationNode()
        segment_id = self.currentSegmentID()
        if segment_id and (node is None or node.GetSegmentation().GetSegment(segment_id) is None):
            self._node.SetSelectedSegmentID(None)
            if self._active_effect is not None and self._active_effect.perSegment:
                self.setActiveEffect(None)
        if self._differs("segment", self.currentSegmentID()):
            self.currentSegmentIDChanged.emit(self.currentSegmentID())

    def _follow_active_effect(self) -> None:
        effect = self._effects.get(self._node.GetActiveEffectName() or "")
        if effect is self._active_effect:
            return
        if self._active_effect is not None:
            self._active_effect.deactivate()
        self._help.setVisible(effect is not None)
        if effect is None:
            self.removeViewObservations()
        else:
            self.setupViewObservations()
            interaction_node = slicer.app.applicationLogic().GetInteractionNode()
            interaction_node.SetCurrentInteractionMode(interaction_node.ViewTransform)
            effect.activate()
            self._help.setCollapsibleText(effect.helpText())
            self._make_cursors(effect)
        self._active_effect = effect

    def _make_cursors(self, effect: Any) -> None:
        for view_widget in all_views(slicer.app.layoutManager()):
            is_slice_view = view_widget.className() == "qMRMLSliceWidget"
            if effect.showEffectCursorInSliceView if is_slice_view else effect.showEffectCursorInThreeDView:
                effect.createCursor(view_widget)

    def _give_effects_the_node(self) -> None:
        with slicer.util.NodeModify(self._node):
            for effect in self._effects.values():
                effect.setParameterSetNode(self._node)
                effect._call("setMRMLDefaults")

    def _on_effect_parameter(self, *_: Any) -> None:
        for effect in self._effects.values():
            effect.updateGUIFromMRML()

    def _on_interaction_node(self, node: Any, *_: Any) -> None:
        if self._active_effect is not None:
            self._active_effect._interaction_node_modified(node)

    def _on_start_close(self, *_: Any) -> None:
        if self._node is not None:
            self.setSegmentationNode(None)
            self.removeViewObservations()

    def _on_end_close(self, *_: Any) -> None:
        if self._node is not None:
            self._give_effects_the_node()
            self.updateWidgetFromMRML()

    def _call_all(self, callback: str) -> None:
        for effect in self._effects.values():
            effect._call(callback)

    def _forget_scene(self) -> None:
        """What the destructor does in C++."""
        for tags in (self._view_tags, self._segmentation_tags, self._node_tags, self._tags):
            _remove_observers(tags)
        for effect in self._effects.values():
            effect.cleanup()


def _observe(tags: list[tuple[Any, int]], observed: Any, event: Any, callback: Any) -> None:
    tags.append((observed, observed.AddObserver(event, callback)))


def _remove_observers(observations: list[tuple[Any, int]]) -> None:
    for observed, tag in observations:
        observed.RemoveObserver(tag)
    observations.clear()
