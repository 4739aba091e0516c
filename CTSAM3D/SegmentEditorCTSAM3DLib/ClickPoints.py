"""A segment's clicks as points in the views, to drag and to delete one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.mrml.points import PointsNode


class ClickPoints(VTKObservationMixin):
    """The control points of one effect. `edited` gets the list of clicks after a drag or a deletion by the user."""

    def __init__(self, scene, edited: Callable[[list[Click]], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._scene = scene
        self._edited = edited
        self._points = PointsNode(scene, _("CT-SAM3D clicks"))
        # Markups must not be changed inside their own events; what a user did is told from the event loop.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tellEdited)

    @property
    def node(self):
        """The markups node while it is shown, else None."""
        return self._points.node

    def show(self, clicks: Sequence[Click], segmentationNode) -> None:
        """Show these clicks (LPS in the segmentation's local frame) in place of the former ones."""
        self._timer.stop()
        self.removeObservers()
        if self._points.ensure():
            self._restrictViewMenu(self.node)
        self._points.show(clicks, segmentationNode)
        for event in (self.node.PointEndInteractionEvent, self.node.PointRemovedEvent):
            self.addObserver(self.node, event, self._onUserEdit)

    def hide(self) -> None:
        """Take the points out of the views; may be called twice, and while the scene closes."""
        self._timer.stop()
        self.removeObservers()
        self._points.hide()

    def close(self) -> None:
        """Hide the points for good."""
        self.hide()
        self._timer.disconnect("timeout()", self._tellEdited)

    def underMouse(self) -> bool:
        """Whether the mouse is on a point, which then takes the press for a drag."""
        return self._points.under_mouse() is not None

    def isThere(self) -> bool:
        """Whether the points are in the scene; users and scripts can delete any node."""
        return self._points.is_there()

    def _restrictViewMenu(self, node) -> None:
        """Leave only deletion in the menu of a right click on a point."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        item = hierarchy.GetItemByDataNode(node)
        if item:
            pluginLogic = slicer.qSlicerSubjectHierarchyPluginHandler.instance().pluginLogic()
            pluginLogic.setAllowedViewContextMenuActionNamesForItem(item, ["DeletePointAction"])

    def _onUserEdit(self, caller, event) -> None:
        self._timer.start()

    def _tellEdited(self) -> None:
        if self._points.shows_clicks():
            self._edited(self._points.clicks())
