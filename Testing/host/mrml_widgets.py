"""Slicer's widgets that know the MRML scene, as far as the extension uses them."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.host.ctk import ctkCollapsibleButton, ctkDoubleSpinBox, ctkSliderWidget
from Testing.host.pythonqt import wrapper


class qMRMLWidget(wrapper(QtWidgets.QWidget)):
    """A widget with a scene."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerWidget(wrapper(QtWidgets.QWidget)):
    """The base of module panels."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class qMRMLCollapsibleButton(ctkCollapsibleButton):
    """A collapsible button that hands the scene on."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class _UnitAware:
    """A number with a unit. Of the scene's units only the length in mm is known here."""

    _scene: Any = None
    _quantity = ""

    @property
    def quantity(self) -> str:
        return self._quantity

    @quantity.setter
    def quantity(self, quantity: str) -> None:
        self._quantity = quantity
        if quantity == "length":
            self.suffix = " mm"

    def setQuantity(self, quantity: str) -> None:
        self.quantity = quantity

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlScene(self) -> Any:
        return self._scene


class qMRMLSliderWidget(_UnitAware, ctkSliderWidget):
    """A slider with a unit."""


class qMRMLSpinBox(_UnitAware, ctkDoubleSpinBox):
    """A spin box with a unit."""


def _setting(name: str) -> property:
    """A property of qMRMLNodeComboBox that decides which nodes it offers."""

    def write(self: Any, value: Any) -> None:
        self._settings[name] = value
        self._refresh()

    return property(lambda self: self._settings[name], write)


class qMRMLNodeComboBox(wrapper(QtWidgets.QWidget)):
    """Chooses one of the scene's nodes of some classes; follows the scene as nodes come, go and are renamed."""

    currentNodeChanged = QtCore.Signal((object,), (bool,))
    currentNodeIDChanged = QtCore.Signal(str)
    nodeAddedByUser = QtCore.Signal(object)

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._box = QtWidgets.QComboBox()
        layout = wrapper(QtWidgets.QHBoxLayout)(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._scene: Any = None
        self._tags: list[Any] = []
        self._attributes: dict[tuple[str, str], Any] = {}
        self._settings: dict[str, Any] = {
            "nodeTypes": (),
            "showHidden": False,
            "showChildNodeTypes": True,
            "hideChildNodeTypes": (),
            "baseName": "",
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "selectNodeUponCreation": True,
            "noneDisplay": "None",
        }
        self._box.currentIndexChanged.connect(self._announce)

    def setMRMLScene(self, scene: Any) -> None:
        self._forget_scene()
        slicer.app._scene_followers.add(self)
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent) if scene else ()
        self._tags = [scene.AddObserver(event, lambda *_: self._refresh()) for event in events]
        self._refresh()

    def _forget_scene(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        index = self._box.findData(node_id or "")
        self._box.setCurrentIndex(index if index >= 0 else self._box.findData(""))

    @property
    def currentNodeID(self) -> str:
        return self._box.currentData() or ""

    @currentNodeID.setter
    def currentNodeID(self, node_id: str) -> None:
        self.setCurrentNodeID(node_id)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes()[index]

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes[node_type, name] = value
        self._refresh()

    def addNode(self, node_type: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(node_type or self.nodeTypes[0], self.baseName)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode():
            self._scene.RemoveNode(self.currentNode())

    nodeTypes = _setting("nodeTypes")
    showHidden = _setting("showHidden")
    showChildNodeTypes = _setting("showChildNodeTypes")
    hideChildNodeTypes = _setting("hideChildNodeTypes")
    baseName = _setting("baseName")
    noneEnabled = _setting("noneEnabled")
    addEnabled = _setting("addEnabled")
    removeEnabled = _setting("removeEnabled")
    editEnabled = _setting("editEnabled")
    renameEnabled = _setting("renameEnabled")
    selectNodeUponCreation = _setting("selectNodeUponCreation")
    noneDisplay = _setting("noneDisplay")

    def _nodes(self) -> list[Any]:
        if self._scene is None or self._scene.IsClosing():
            return []
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        return [node for node in nodes if self._offers(node)]

    def _offers(self, node: Any) -> bool:
        matches = node.IsA if self.showChildNodeTypes else node.GetClassName().__eq__
        if not any(matches(node_type) for node_type in self.nodeTypes) or (
            node.GetHideFromEditors() and not self.showHidden
        ):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for (node_type, name), value in self._attributes.items()
            if node.IsA(node_type)
        )

    def _refresh(self) -> None:
        before = self._box.currentData()
        self._box.blockSignals(True)
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        for node in self._nodes():
            self._box.addItem(node.GetName(), node.GetID())
        index = self._box.findData(before)
        self._box.setCurrentIndex(index if index >= 0 else 0 if self._box.count() else -1)
        self._box.blockSignals(False)
        if self._box.currentData() != before:
            self._announce()

    def _announce(self, *_index: int) -> None:
        node = self.currentNode()
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentNodeIDChanged.emit(self.currentNodeID)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Chooses a segmentation and one of its segments."""

    currentNodeChanged = QtCore.Signal((object,), (bool,))
    currentSegmentChanged = QtCore.Signal(str)

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._node_box = qMRMLNodeComboBox()
        self._node_box.nodeTypes = ("vtkMRMLSegmentationNode",)
        self._segment_box = QtWidgets.QComboBox()
        self._none_enabled = False
        layout = wrapper(QtWidgets.QHBoxLayout)(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._node_box)
        layout.addWidget(self._segment_box)
        self._node_box.connect("currentNodeChanged(vtkMRMLNode*)", self._follow)
        self._segment_box.currentIndexChanged.connect(
            lambda _: self.currentSegmentChanged.emit(self.currentSegmentID())
        )

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._node_box.setMRMLScene(scene)

    def currentNode(self) -> Any:
        return self._node_box.currentNode()

    def setCurrentNode(self, node: Any) -> None:
        self._node_box.setCurrentNode(node)

    def currentSegmentID(self) -> str:
        return self._segment_box.currentData() or ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segment_box.setCurrentIndex(self._segment_box.findData(segment_id))

    @property
    def noneEnabled(self) -> bool:
        return self._none_enabled

    @noneEnabled.setter
    def noneEnabled(self, enabled: bool) -> None:
        self._none_enabled = enabled
        self._node_box.noneEnabled = enabled

    def _follow(self, node: Any) -> None:
        self._segment_box.clear()
        segmentation = node.GetSegmentation() if node else slicer.vtkSegmentation()
        for index in range(segmentation.GetNumberOfSegments()):
            segment_id = segmentation.GetNthSegmentID(index)
            self._segment_box.addItem(segmentation.GetSegment(segment_id).GetName(), segment_id)
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
