"""Slice and 3D views without a window: real view nodes, slice logics, renderers and interactors; nothing is drawn."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from Testing.host.mrml_widgets import qMRMLWidget
from Testing.host.pythonqt import wrapper

SURFACES = "vtkMRMLSegmentationsDisplayableManager3D"
VIEW_SIZE = 256
"""Width and height of each view in pixels."""


class ctkVTKAbstractView(wrapper(QtWidgets.QWidget)):
    """A render window and its interactor. Renders are counted, not drawn: `_renders`."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._render_window = vtk.vtkGenericOpenGLRenderWindow()  # asks for no display, as nothing is drawn
        self._render_window.SetSize(VIEW_SIZE, VIEW_SIZE)
        self._renderer = vtk.vtkRenderer()
        self._render_window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._interactor.SetRenderWindow(self._render_window)
        self._renders = 0
        self._handled = False  # whether the effect took the last event for itself
        self._node: Any = None

    def renderWindow(self) -> Any:
        return self._render_window

    def interactor(self) -> Any:
        return self._interactor

    def scheduleRender(self) -> None:
        self._renders += 1

    def forceRender(self) -> None:
        self._renders += 1


class qMRMLSliceView(ctkVTKAbstractView):
    """The picture part of a slice view."""

    def mrmlSliceNode(self) -> Any:
        return self._node


class qMRMLThreeDView(ctkVTKAbstractView):
    """The picture part of a 3D view. Slicer's own displayable manager puts segments' surfaces into its renderer."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        if not factory.IsDisplayableManagerRegistered(SURFACES):
            factory.RegisterDisplayableManager(SURFACES)
        self._managers = factory.InstantiateDisplayableManagers(self._renderer)

    def setMRMLViewNode(self, node: Any) -> None:
        self._node = node
        self._managers.SetMRMLDisplayableNode(node)

    def mrmlViewNode(self) -> Any:
        return self._node

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._managers.GetDisplayableManagerByClassName(name)


class qMRMLSliceWidget(qMRMLWidget):
    """A slice view with its node and logic."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._view = qMRMLSliceView()
        self._logic = slicer.vtkMRMLSliceLogic()

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)

    def setMRMLSliceNode(self, node: Any) -> None:
        self._view._node = node
        self._logic.SetSliceNode(node)

    def mrmlSliceNode(self) -> Any:
        return self._view._node

    def mrmlAbstractViewNode(self) -> Any:
        return self._view._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> Any:
        return self._view

    def viewWidget(self) -> Any:
        return self._view


class qMRMLThreeDWidget(qMRMLWidget):
    """A 3D view with its node."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._view = qMRMLThreeDView()

    def setMRMLViewNode(self, node: Any) -> None:
        self._view.setMRMLViewNode(node)

    def mrmlViewNode(self) -> Any:
        return self._view._node

    def mrmlAbstractViewNode(self) -> Any:
        return self._view._node

    def threeDView(self) -> Any:
        return self._view

    def viewWidget(self) -> Any:
        return self._view


class qSlicerLayoutManager(wrapper(QtCore.QObject)):
    """Three slice views and a 3D view, as in Slicer's usual layout."""

    layoutChanged = QtCore.Signal(int)
    _ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}  # noqa: RUF012

    def __init__(self, scene: Any) -> None:
        super().__init__()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._slice_widgets = {name: self._make_slice_widget(scene, name) for name in self._ORIENTATIONS}
        self._three_d_widget = qMRMLThreeDWidget()
        self._three_d_widget.setMRMLScene(scene)
        self._three_d_widget.setMRMLViewNode(_singleton(scene, "vtkMRMLViewNode", "1"))

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slice_widgets)

    def sliceWidget(self, name: str) -> Any:
        return self._slice_widgets.get(name)

    @property
    def threeDViewCount(self) -> int:
        return 1

    def threeDWidget(self, index: int) -> Any:
        return self._three_d_widget if index == 0 else None

    def resetSliceViews(self) -> None:
        for widget in self._slice_widgets.values():
            widget.sliceLogic().FitSliceToAll()

    def resetThreeDViews(self) -> None:
        self._three_d_widget.threeDView()._renderer.ResetCamera()

    def _make_slice_widget(self, scene: Any, name: str) -> qMRMLSliceWidget:
        node = _singleton(scene, "vtkMRMLSliceNode", name)
        node.SetOrientation(self._ORIENTATIONS[name])
        node.SetDimensions(VIEW_SIZE, VIEW_SIZE, 1)
        widget = qMRMLSliceWidget()
        widget.setMRMLScene(scene)
        widget.setMRMLSliceNode(node)
        return widget


def all_views(layout_manager: Any) -> list[Any]:
    """The slice and 3D widgets of a layout manager; none where there is no window."""
    if layout_manager is None:
        return []
    return [*layout_manager._slice_widgets.values(), layout_manager._three_d_widget]


def _singleton(scene: Any, class_name: str, tag: str) -> Any:
    node = scene.CreateNodeByClass(class_name)
    node.UnRegister(None)
    node.SetSingletonTag(tag)
    node.SetLayoutName(tag)
    node.SetName(tag)
    return scene.AddNode(node)


def ras_to_display(ras: Any, three_d_widget: Any) -> tuple[float, float]:
    """Where RAS in mm lies in a 3D view, in pixels."""
    renderer = three_d_widget.threeDView()._renderer
    renderer.SetWorldPoint(*map(float, ras), 1.0)
    renderer.WorldToDisplay()
    return renderer.GetDisplayPoint()[:2]
