"""The C++ side of a scripted Segment Editor effect, over a real parameter node and vtkSlicerSegmentEditorLogic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.loading import load_file
from Testing.host.pythonqt import ModalDialogOpenedError, wrapper


class AbstractScriptedSegmentEditorEffect:
    """The Python base class of effects: holds the C++ object and offers it under `scriptedEffect`."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        """Offer this effect to every Segment Editor made from now on."""
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """Called before the effect goes away."""

    def xyToRas(self, xy: Any, viewWidget: Any) -> Any:
        """A position in a slice view, in pixels, as RAS in mm."""
        return _xyz_to_ras((xy[0], xy[1], 0.0), viewWidget)

    def xyzToRas(self, xyz: Any, viewWidget: Any) -> Any:
        """A position in a slice view and across it, in pixels, as RAS in mm."""
        return _xyz_to_ras(xyz, viewWidget)

    def rasToXy(self, ras: Any, viewWidget: Any) -> list[int]:
        """Where RAS in mm lies in a slice view, in pixels."""
        return [round(value) for value in ras_to_xyz(ras, viewWidget)[:2]]


def _property(name: str) -> property:
    return property(lambda self: self._properties[name], lambda self, value: self._properties.__setitem__(name, value))


class qSlicerSegmentEditorAbstractEffect(wrapper(QtCore.QObject)):
    """What every effect inherits in C++; `_editor` is the Segment Editor that the effect was cloned for.

    The parameter node comes later than the options: in `setupOptionsFrame` there may be no node and no scene yet.
    """

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)

    def __init__(self, *parent: Any) -> None:
        QtCore.QObject.__init__(self, *parent)
        self._editor: Any = None
        self._parameter_node: Any = None
        self._active = False
        self._properties: dict[str, Any] = {"name": "", "title": "", "perSegment": True, "requireSegments": True}
        self._properties.update(showEffectCursorInSliceView=True, showEffectCursorInThreeDView=False)
        self._options_frame = wrapper(QtWidgets.QFrame)()
        self._options_layout = wrapper(QtWidgets.QFormLayout)(self._options_frame)
        self._options_layout.setContentsMargins(4, 4, 4, 4)
        self._options_layout.setSpacing(4)

    name = _property("name")
    title = _property("title")
    perSegment = _property("perSegment")
    requireSegments = _property("requireSegments")
    showEffectCursorInSliceView = _property("showEffectCursorInSliceView")
    showEffectCursorInThreeDView = _property("showEffectCursorInThreeDView")

    def active(self) -> bool:
        return self._active

    def selectEffect(self, effect_name: str) -> None:
        self._editor.setActiveEffectByName(effect_name)

    # Nodes and parameters

    def parameterSetNode(self) -> Any:
        return self._parameter_node

    def setParameterSetNode(self, node: Any) -> None:
        self._parameter_node = node

    def scene(self) -> Any:
        return self._parameter_node.GetScene() if self._parameter_node else None

    def parameterDefined(self, name: str) -> bool:
        return bool(self._attribute(self._prefixed(name)))

    def commonParameterDefined(self, name: str) -> bool:
        return bool(self._attribute(name))

    def parameter(self, name: str) -> str:
        if self._parameter_node is None:
            return ""
        for attribute in (self._prefixed(name), name):
            if self._attribute(attribute):
                return self._attribute(attribute)
        raise KeyError(f"The effect parameter '{name}' is not set; setMRMLDefaults has to give its default.")

    def integerParameter(self, name: str) -> int:
        return int(self.parameter(name)) if self._parameter_node else 0

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name)) if self._parameter_node else 0.0

    def setParameter(self, name: str, value: str | int | float) -> None:
        self._set_attribute(self._prefixed(name), value)

    def setParameterDefault(self, name: str, value: str | int | float) -> None:
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def setCommonParameter(self, name: str, value: str | int | float) -> None:
        self._set_attribute(name, value)

    def setCommonParameterDefault(self, name: str, value: str | int | float) -> None:
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def nodeReference(self, name: str) -> Any:
        return self.parameterSetNode().GetNodeReference(self._prefixed(name))

    def setNodeReference(self, name: str, node: Any) -> None:
        self.parameterSetNode().SetNodeReferenceID(self._prefixed(name), node.GetID() if node else None)

    def _prefixed(self, name: str) -> str:
        return f"{self.name}.{name}"

    def _attribute(self, name: str) -> str | None:
        return self._parameter_node.GetAttribute(name) if self._parameter_node else None

    def _set_attribute(self, name: str, value: str | int | float) -> None:
        """Set it without a ModifiedEvent; what watches parameters hears EffectParameterModified instead."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError(f"An effect parameter is a str, an int or a float, not {value!r}.")
        node = self._parameter_node
        if node is None:
            raise RuntimeError(f"The effect parameter '{name}' has no parameter node yet; Slicer drops it.")
        text = f"{value:g}" if isinstance(value, float) else str(value)  # as QString::number does
        if (node.GetAttribute(name) or "") == text:
            return
        disabled = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(disabled)
        node.InvokeCustomModifiedEvent(slicer.vtkMRMLSegmentEditorNode.EffectParameterModified)

    # Options

    def optionsFrame(self) -> Any:
        return self._options_frame

    def optionsLayout(self) -> Any:
        return self._options_layout

    def addOptionsWidget(self, widget_or_layout: Any) -> None:
        self._let_grow(widget_or_layout)
        QtWidgets.QFormLayout.addRow(self._options_layout, widget_or_layout)

    def addLabeledOptionsWidget(self, label: str, widget_or_layout: Any) -> Any:
        self._let_grow(widget_or_layout)
        label_widget = wrapper(QtWidgets.QLabel)(label)
        QtWidgets.QFormLayout.addRow(self._options_layout, label_widget, widget_or_layout)
        return label_widget

    def _let_grow(self, widget_or_layout: Any) -> None:
        if isinstance(widget_or_layout, QtWidgets.QWidget):
            preferred, growing = QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.MinimumExpanding
            widget_or_layout.setSizePolicy(preferred, growing)

    # Images, all in the segmentation's own coordinates

    def sourceVolumeImageData(self) -> Any:
        logic = self._editor._logic
        return logic.GetAlignedSourceVolume() if logic.UpdateAlignedSourceVolume() else None

    def referenceGeometryImage(self) -> Any:
        logic = self._editor._logic
        return logic.GetReferenceGeometryImage() if logic.UpdateReferenceGeometryImage() else None

    def defaultModifierLabelmap(self) -> Any:
        self._editor._logic.ResetModifierLabelmapToDefault()
        return self._editor._logic.GetModifierLabelmap()

    def modifierLabelmap(self) -> Any:
        return self._editor._logic.GetModifierLabelmap()

    def selectedSegmentLabelmap(self) -> Any:
        self._editor._logic.UpdateSelectedSegmentLabelmap()
        return self._editor._logic.GetSelectedSegmentLabelmap()

    def maskLabelmap(self) -> Any:
        self._editor._logic.UpdateMaskLabelmap()
        return self._editor._logic.GetMaskLabelmap()

    # Writing

    def saveStateForUndo(self) -> None:
        self._editor._logic.SaveStateForUndo()

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, *extent_and_bypass: Any) -> None:
        node = self.parameterSetNode()
        self.modifySegmentByLabelmap(
            node.GetSegmentationNode(), node.GetSelectedSegmentID(), labelmap, mode, *extent_and_bypass
        )

    def modifySegmentByLabelmap(
        self, segmentation_node: Any, segment_id: str, labelmap: Any, mode: int, *extent_and_bypass: Any
    ) -> None:
        logic = self._editor._logic
        names = ("Set", "Add", "Remove", "RemoveAll")
        mode_member = getattr(logic, f"ModificationMode{names[mode]}")
        extents = [list(value) for value in extent_and_bypass if isinstance(value, (list, tuple))]
        bypass = bool(extent_and_bypass and extent_and_bypass[-1] is True)
        logic.ModifySegmentByLabelmap(
            segmentation_node, segment_id, labelmap, mode_member, *extents, self.perSegment, bypass
        )

    def confirmCurrentSegmentVisible(self) -> int:
        node = self._parameter_node
        selected = node and node.GetSegmentationNode() and node.GetSelectedSegmentID()
        if selected and not self._editor._logic.IsSelectedSegmentVisible():
            raise ModalDialogOpenedError("The selected segment is hidden: Slicer asks the user whether to go on.")
        return self.ConfirmedWithoutDialog

    # Views

    def addActor2D(self, view_widget: Any, actor: Any) -> None:
        self.renderer(view_widget).AddActor2D(actor)

    def removeActor2D(self, view_widget: Any, actor: Any) -> None:
        self.renderer(view_widget).RemoveActor2D(actor)

    def addActor3D(self, view_widget: Any, prop: Any) -> None:
        self.renderer(view_widget).AddViewProp(prop)

    def removeActor3D(self, view_widget: Any, prop: Any) -> None:
        self.renderer(view_widget).RemoveViewProp(prop)

    def cursorOff(self, view_widget: Any) -> None:
        view_widget.viewWidget().setCursor(QtCore.Qt.CursorShape.BlankCursor)

    def cursorOn(self, view_widget: Any) -> None:
        view_widget.viewWidget().unsetCursor()

    def segmentationDisplayableInView(self, view_node: Any) -> bool:
        return bool(self._editor._logic.IsSegmentationDisplayableInView(view_node))

    @staticmethod
    def renderWindow(view_widget: Any) -> Any:
        return view_widget.viewWidget().renderWindow()

    @staticmethod
    def renderer(view_widget: Any) -> Any:
        return view_widget.viewWidget().renderWindow().GetRenderers().GetFirstRenderer()

    @staticmethod
    def viewNode(view_widget: Any) -> Any:
        return view_widget.mrmlAbstractViewNode()

    @staticmethod
    def scheduleRender(view_widget: Any) -> None:
        view_widget.viewWidget().scheduleRender()

    @staticmethod
    def forceRender(view_widget: Any) -> None:
        view_widget.viewWidget().forceRender()

    @staticmethod
    def sliceSpacing(slice_widget: Any) -> float:
        return slicer.vtkSlicerSegmentEditorLogic.GetSliceSpacing(slice_widget.mrmlSliceNode())

    @staticmethod
    def xyToRas(point: Any, slice_widget: Any) -> Any:
        return QtGui.QVector3D(*_xyz_to_ras((point.x(), point.y(), 0.0), slice_widget))

    @staticmethod
    def rasToXy(ras: Any, slice_widget: Any) -> Any:
        x, y, _ = ras_to_xyz((ras.x(), ras.y(), ras.z()), slice_widget)
        return QtCore.QPoint(round(x), round(y))


class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """An effect whose callbacks are methods of a Python object."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._python: Any = None
        self._source = ""

    def setPythonSource(self, path: str) -> bool:
        """Make the Python object: module = the file's folder, class = the file's name, as Slicer resolves them."""
        source = Path(path)
        module_name, class_name = source.parent.name, source.stem
        if not class_name.endswith("Effect"):
            class_name += "Effect"
        module = sys.modules.get(module_name)
        if not hasattr(module, class_name):
            module = load_file(module_name, source)
        self._source = path
        self._python = getattr(module, class_name)(self)
        return True

    def pythonSource(self) -> str:
        return self._source

    def self(this) -> Any:
        return this._python

    def helpText(self) -> str:
        return self._call("helpText", default="")

    def activate(self) -> None:
        self._options_frame.setVisible(True)
        self._active = True
        self.updateGUIFromMRML()
        self._call("activate")

    def deactivate(self) -> None:
        self._options_frame.setVisible(False)
        self._active = False
        self._call("deactivate")

    def updateGUIFromMRML(self) -> None:
        if self._active:
            self._call("updateGUIFromMRML")

    def updateMRMLFromGUI(self) -> None:
        self._call("updateMRMLFromGUI")

    def createCursor(self, view_widget: Any) -> Any:
        return self._call("createCursor", view_widget)

    def cleanup(self) -> None:
        self._call("cleanup")

    def _call(self, callback: str, *arguments: Any, default: Any = None) -> Any:
        """Call a callback where the Python class has it."""
        method = getattr(self._python, callback, None)
        return default if method is None else method(*arguments)

    def _interaction_node_modified(self, node: Any) -> None:
        """An effect that does not handle it is deselected when the mouse gets another use, as in C++."""
        if hasattr(self._python, "interactionNodeModified"):
            self._python.interactionNodeModified(node)
        elif node.GetCurrentInteractionMode() != node.ViewTransform:
            self.selectEffect("")


class qSlicerSegmentEditorEffectFactory(wrapper(QtCore.QObject)):
    """The effects that Segment Editors clone."""

    effectRegistered = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._effects: list[qSlicerSegmentEditorAbstractEffect] = []

    @staticmethod
    def instance() -> qSlicerSegmentEditorEffectFactory:
        return slicer.app._effect_factory

    def registerEffect(self, effect: qSlicerSegmentEditorAbstractEffect) -> bool:
        if not effect.name or any(known.name == effect.name for known in self._effects):
            return False
        self._effects.append(effect)
        self.effectRegistered.emit(effect.name)
        return True

    def registeredEffects(self) -> list[Any]:
        return list(self._effects)


def _xyz_to_ras(xyz: Any, slice_widget: Any) -> list[float]:
    return list(slice_widget.mrmlSliceNode().GetXYToRAS().MultiplyPoint((*map(float, xyz), 1.0))[:3])


def ras_to_xyz(ras: Any, slice_widget: Any) -> list[float]:
    """Where RAS in mm lies in a slice view, in pixels; the third value is the distance to the slice."""
    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(slice_widget.mrmlSliceNode().GetXYToRAS(), inverse)
    return list(inverse.MultiplyPoint((*map(float, ras), 1.0))[:3])
