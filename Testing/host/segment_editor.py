"""The Segment Editor's widget: drives effects as Slicer does, over a real parameter node and editor logic."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from Testing.host.ctk import ctkFittedTextBrowser
from Testing.host.mrml_widgets import qMRMLWidget
from Testing.host.segment_effect import qSlicerSegmentEditorEffectFactory
from Testing.host.views import all_views

_INTERACTION_EVENTS = (
    *(f"{button}Button{action}Event" for button in ("Left", "Middle", "Right") for action in ("Press", "Release")),
    *("LeftButtonDoubleClickEvent", "MouseMoveEvent", "MouseWheelForwardEvent", "MouseWheelBackwardEvent"),
    *("KeyPressEvent", "KeyReleaseEvent", "EnterEvent", "LeaveEvent"),
)


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Chooses segmentation, volume, segment and effect; shows the effect's options; undoes and redoes.

    It also does what the Segment Editor module does around it when a scene closes.
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
        self._seen: dict[str, Any] = dict.fromkeys(("segmentation", "volume", "segment", "geometry"))
        self._tags: list[tuple[Any, int]] = []
        self._segmentation_tags: list[tuple[Any, int]] = []
        self._view_tags: list[tuple[Any, int]] = []
        self._views: list[Any] = []
        self._updating = False
        self._layout = QtWidgets.QVBoxLayout(self)
        self._help = ctkFittedTextBrowser()
        self._layout.addWidget(self._help)
        self._layout.addStretch(1)
        self._help.setVisible(False)

    # Nodes

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for event, callback in (
            (scene.StartCloseEvent, self._on_start_close),
            (scene.EndCloseEvent, self._on_end_close),
            (scene.EndImportEvent, lambda *_: self.updateWidgetFromMRML()),
        ):
            self._tags.append((scene, scene.AddObserver(event, callback)))
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        self._tags.append(
            (interaction, interaction.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_interaction_node))
        )
        self.updateEffectList()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is None:
            return
        self._tags.append(
            (node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.updateWidgetFromMRML()))
        )
        event = slicer.vtkMRMLSegmentEditorNode.EffectParameterModified
        self._tags.append((node, node.AddObserver(event, self._on_effect_parameter)))
        self._set_defaults()
        self.updateWidgetFromMRML()

    def setSegmentationNode(self, node: Any) -> None:
        self._node.SetAndObserveSegmentationNode(node)
        if node is not None and self._node.GetSourceVolumeNode() is None:
            reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
            self._node.SetAndObserveSourceVolumeNode(reference)
        self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        segmentation_node = self.segmentationNode()
        if segmentation_node is not None and node is not None:
            role = segmentation_node.GetReferenceImageGeometryReferenceRole()
            if segmentation_node.GetNodeReference(role) is None:
                segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(node)
        self._node.SetAndObserveSourceVolumeNode(node)
        self.updateWidgetFromMRML()

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
            frame = effect.optionsFrame()
            frame.setVisible(False)
            self._layout.insertWidget(self._layout.count() - 1, frame)
            effect._call("setupOptionsFrame")
            if self._node is not None:
                effect._call("setMRMLDefaults")

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
        self.updateWidgetFromMRML()

    # Undo

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    # Views

    def setupViewObservations(self) -> None:
        self.removeViewObservations()
        self._views = all_views(slicer.app.layoutManager())
        for view_widget in self._views:
            interactor = view_widget.viewWidget().interactor()
            for event in _INTERACTION_EVENTS:
                tag = interactor.AddObserver(event, self._hand_on(view_widget), 1.0)
                self._view_tags.append((interactor, tag))
            view_node = view_widget.mrmlAbstractViewNode()
            tag = view_node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._hand_on_view_node(view_widget))
            self._view_tags.append((view_node, tag))

    def removeViewObservations(self) -> None:
        _remove_observers(self._view_tags)
        self._views = []

    def _hand_on(self, view_widget: Any) -> Any:
        def deliver(interactor: Any, event: str) -> None:
            if self._active_effect is None or self._mouse_is_taken():
                return
            event_id = vtk.vtkCommand.GetEventIdFromString(event)
            handled = self._active_effect._call(
                "processInteractionEvents", interactor, event_id, view_widget, default=False
            )
            if not isinstance(handled, bool):
                raise TypeError(f"processInteractionEvents has to return a bool, not {handled!r}.")
            view_widget.viewWidget()._handled = handled

        return deliver

    def _hand_on_view_node(self, view_widget: Any) -> Any:
        def deliver(view_node: Any, event: str) -> None:
            if self._active_effect is not None:
                event_id = vtk.vtkCommand.GetEventIdFromString(event)
                self._active_effect._call("processViewNodeEvents", view_node, event_id, view_widget)

        return deliver

    def _mouse_is_taken(self) -> bool:
        node = slicer.app.applicationLogic().GetInteractionNode()
        return node.GetCurrentInteractionMode() == node.Place

    # What the scene tells

    def updateWidgetFromMRML(self) -> None:
        """Bring segment, volume, geometry and effect in line with the parameter node."""
        if self._node is None or self._updating:
            return
        self._updating = True
        try:
            self._follow_segmentation()
            self._keep_a_valid_segment()
        finally:
            self._updating = False
        if self._differs("segment", self.currentSegmentID()):
            self.currentSegmentIDChanged.emit(self.currentSegmentID())
        if self._differs("volume", self.sourceVolumeNode()):
            self.sourceVolumeNodeChanged.emit(self.sourceVolumeNode())
            self._call_all("sourceVolumeNodeChanged")
        if self._differs("geometry", self._logic.GetReferenceImageGeometryString()):
            self._call_all("referenceGeometryChanged")
        self._follow_active_effect()

    def _differs(self, what: str, now: Any) -> bool:
        before, self._seen[what] = self._seen[what], now
        return before is not now and before != now

    def _follow_segmentation(self) -> None:
        node = self.segmentationNode()
        if not self._differs("segmentation", node):
            return
        _remove_observers(self._segmentation_tags)
        if node is not None:
            for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
                tag = node.AddObserver(event, lambda *_: self.updateWidgetFromMRML())
                self._segmentation_tags.append((node, tag))
        self.segmentationNodeChanged.emit(node)

    def _keep_a_valid_segment(self) -> None:
        node = self.segmentationNode()
        segmentation = node.GetSegmentation() if node else None
        if segmentation is None or segmentation.GetNumberOfSegments() == 0:
            self._node.SetSelectedSegmentID(None)
        elif segmentation.GetSegment(self.currentSegmentID()) is None:
            self._node.SetSelectedSegmentID(segmentation.GetNthSegmentID(0))

    def _follow_active_effect(self) -> None:
        effect = self._effects.get(self._node.GetActiveEffectName() or "")
        if effect is self._active_effect:
            return
        previous, self._active_effect = self._active_effect, effect
        if previous is not None:
            previous.deactivate()
            previous.optionsFrame().setVisible(False)
        self._help.setVisible(effect is not None)
        if effect is not None:
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
            self._help.setCollapsibleText(effect.helpText())
            effect.optionsFrame().setVisible(True)
            effect.activate()

    def _on_effect_parameter(self, *_: Any) -> None:
        if self._active_effect is not None:
            self._active_effect.updateGUIFromMRML()

    def _on_interaction_node(self, node: Any, *_: Any) -> None:
        if self._active_effect is not None:
            self._active_effect._interaction_node_modified(node)

    def _on_start_close(self, *_: Any) -> None:
        if self._node is not None:
            self.setSegmentationNode(None)

    def _on_end_close(self, *_: Any) -> None:
        if self._node is not None:
            self._set_defaults()
            self.updateWidgetFromMRML()

    def _set_defaults(self) -> None:
        for effect in self._effects.values():
            effect._call("setMRMLDefaults")

    def _call_all(self, callback: str) -> None:
        for effect in self._effects.values():
            effect._call(callback)

    def _close(self) -> None:
        """What the destructor does in C++."""
        if self._active_effect is not None:
            self.setActiveEffect(None)
        self.removeViewObservations()
        _remove_observers(self._segmentation_tags)
        _remove_observers(self._tags)
        for effect in self._effects.values():
            effect.cleanup()


def _remove_observers(observations: list[tuple[Any, int]]) -> None:
    for observed, tag in observations:
        observed.RemoveObserver(tag)
    observations.clear()
