"""A segment's clicks as points in the views: green inside, red outside, to be dragged.

The clicks live in the segment's tags. The markups node here is only an editor for them: it comes and goes with whoever
shows it, and is never saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.colors import NEGATIVE_COLOR, POSITIVE_COLOR
from CTSAM3DLib.mrml.clicks import write_points
from CTSAM3DLib.mrml.frames import to_local

GLYPH_SCALE = 2.2
SAME_PLACE_MM = 2e-3
"""Two micrometres: positions are rounded to one, and a trip through a transform may add another."""


class PointsNode:
    """The control points that show the clicks of one segment at a time."""

    def __init__(self, scene: slicer.vtkMRMLScene, name: str = "CT-SAM3D clicks") -> None:
        self._scene = scene
        self._name = name
        self._segmentation_node: slicer.vtkMRMLSegmentationNode | None = None
        self._click_of_point: dict[str, Click] = {}
        self.node: Any = None
        """The vtkMRMLMarkupsFiducialNode while there is one, else None; users and scripts can delete any node."""

    def ensure(self) -> bool:
        """Make the node where there is none, or no longer; whether it was made."""
        if self.is_there():
            return False
        node = self._scene.CreateNodeByClass("vtkMRMLMarkupsFiducialNode")
        node.UnRegister(None)  # the scene and this object hold it
        node.SetName(self._name)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)  # editing it elsewhere would delete it while it is in use
        self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetTextScale(0)
        display.SetGlyphScale(GLYPH_SCALE)
        display.SetSnapMode(display.SnapModeUnconstrained)
        display.SetSelectedColor(*POSITIVE_COLOR)
        display.SetColor(*NEGATIVE_COLOR)
        self.node = node
        return True

    def show(self, clicks: Sequence[Click], segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        """Show these clicks (LPS in the segmentation's local frame) in place of the former ones."""
        self.ensure()
        self._segmentation_node = segmentation_node
        write_points(clicks, self.node, segmentation_node)
        self._click_of_point = {}
        for index, click in enumerate(clicks):
            self.node.SetNthControlPointSelected(index, click.positive)  # the display colors selected points apart
            self._click_of_point[self.node.GetNthControlPointID(index)] = click

    def hide(self) -> None:
        """Take the points out of the views; may be called twice, and while the scene closes."""
        if self.is_there() and not self._scene.IsClosing():  # a closing scene removes the node itself
            self._scene.RemoveNode(self.node)
        self.node = None
        self._segmentation_node = None
        self._click_of_point = {}

    def is_there(self) -> bool:
        """Whether the points are in the scene."""
        return self.node is not None and self.node.GetScene() is not None

    def shows_clicks(self) -> bool:
        """Whether the points are in the scene and belong to a segmentation, so that they can be read."""
        return self.is_there() and self._segmentation_node is not None

    def under_mouse(self) -> int | None:
        """The number, from 0, of the point that the mouse is on; the node then takes a press for a drag."""
        if not self.is_there():
            return None
        display = self.node.GetDisplayNode()
        return display.GetActiveComponentIndex() if display.HasActiveComponent() else None

    def clicks(self) -> list[Click]:
        """The clicks as the points say now. A point that was not moved keeps its click bit by bit."""
        clicks = []
        for index in range(self.node.GetNumberOfControlPoints()):
            known = self._click_of_point.get(self.node.GetNthControlPointID(index))
            if known is None or self.node.GetNthControlPointPositionStatus(index) != self.node.PositionDefined:
                continue
            position = to_local(self.node.GetNthControlPointPositionWorld(index), self._segmentation_node)
            moved = vtk.vtkMath.Distance2BetweenPoints(position, known.position) > SAME_PLACE_MM**2
            clicks.append(Click(position, known.positive) if moved else known)
        return clicks
