"""A segment's clicks as points in the views: green inside, red outside, to drag and to delete one by one.

The clicks live in the segment's tags. The markups node here is only an editor for them: it comes with the effect,
goes with it, and is never saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CTSAM3DLib.clicks import Click
from CTSAM3DLib.mrml.clicks import write_points
from CTSAM3DLib.mrml.frames import to_local

INSIDE_COLOR = (0.2, 0.9, 0.3)
OUTSIDE_COLOR = (1.0, 0.25, 0.2)
GLYPH_SCALE = 2.2
SAME_PLACE_MM = 2e-3
"""Two micrometres: positions are rounded to one, and a trip through a transform may add another."""


class ClickPoints(VTKObservationMixin):
    """The control points of one effect. `edited` gets the list of clicks after a drag or a deletion by the user."""

    def __init__(self, scene, edited: Callable[[list[Click]], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._scene = scene
        self._edited = edited
        self._node = None
        self._segmentationNode = None
        self._clickOfPoint: dict[str, Click] = {}
        # Markups must not be changed inside their own events; what a user did is told from the event loop.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tellEdited)

    def show(self, clicks: Sequence[Click], segmentationNode) -> None:
        """Show these clicks (LPS in the segmentation's local frame) in place of the former ones."""
        self._timer.stop()
        self._segmentationNode = segmentationNode
        node = self._ensureNode()
        self.removeObservers()
        write_points(clicks, node, segmentationNode)
        self._clickOfPoint = {}
        for index, click in enumerate(clicks):
            node.SetNthControlPointSelected(index, click.positive)  # the display colors selected points apart
            self._clickOfPoint[node.GetNthControlPointID(index)] = click
        self._observe(node)

    def hide(self) -> None:
        """Take the points out of the views; may be called twice, and while the scene closes."""
        self._timer.stop()
        self.removeObservers()
        if self.isThere() and not self._scene.IsClosing():  # a closing scene removes the node itself
            self._scene.RemoveNode(self._node)
        self._node = None
        self._segmentationNode = None
        self._clickOfPoint = {}

    def close(self) -> None:
        """Hide the points for good."""
        self.hide()
        self._timer.disconnect("timeout()", self._tellEdited)

    def underMouse(self) -> bool:
        """Whether the mouse is on a point, which then takes the press for a drag."""
        return self.isThere() and self._node.GetDisplayNode().HasActiveComponent()

    def isThere(self) -> bool:
        """Whether the points are in the scene; users and scripts can delete any node."""
        return self._node is not None and self._node.GetScene() is not None

    def _ensureNode(self):
        """The node, made anew where the user or a script deleted it: the clicks are in the tags."""
        if not self.isThere():
            node = self._scene.CreateNodeByClass("vtkMRMLMarkupsFiducialNode")
            node.UnRegister(None)  # the scene and this object hold it
            node.SetName(_("CT-SAM3D clicks"))
            node.SetSaveWithScene(False)
            node.SetHideFromEditors(True)  # editing it elsewhere would delete it while it is in use
            self._scene.AddNode(node)
            node.CreateDefaultDisplayNodes()
            self._setUpDisplay(node.GetDisplayNode())
            self._restrictViewMenu(node)
            self._node = node
        return self._node

    def _setUpDisplay(self, display) -> None:
        display.SetSaveWithScene(False)
        display.SetTextScale(0)
        display.SetGlyphScale(GLYPH_SCALE)
        display.SetSnapMode(display.SnapModeUnconstrained)
        display.SetSelectedColor(*INSIDE_COLOR)
        display.SetColor(*OUTSIDE_COLOR)

    def _restrictViewMenu(self, node) -> None:
        """Leave only deletion in the menu of a right click on a point."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        item = hierarchy.GetItemByDataNode(node)
        if item:
            pluginLogic = slicer.qSlicerSubjectHierarchyPluginHandler.instance().pluginLogic()
            pluginLogic.setAllowedViewContextMenuActionNamesForItem(item, ["DeletePointAction"])

    def _observe(self, node) -> None:
        for event in (node.PointEndInteractionEvent, node.PointRemovedEvent):
            self.addObserver(node, event, self._onUserEdit)

    def _onUserEdit(self, caller, event) -> None:
        self._timer.start()

    def _tellEdited(self) -> None:
        if self.isThere() and self._segmentationNode is not None:
            self._edited(self._read())

    def _read(self) -> list[Click]:
        """The clicks as the points say now. A point that was not moved keeps its click bit by bit."""
        clicks = []
        for index in range(self._node.GetNumberOfControlPoints()):
            known = self._clickOfPoint.get(self._node.GetNthControlPointID(index))
            if known is None or self._node.GetNthControlPointPositionStatus(index) != self._node.PositionDefined:
                continue
            position = to_local(self._node.GetNthControlPointPositionWorld(index), self._segmentationNode)
            moved = vtk.vtkMath.Distance2BetweenPoints(position, known.position) > SAME_PLACE_MM**2
            clicks.append(Click(position, known.positive) if moved else known)
        return clicks
