"""What is on its way and what has changed, shown over the views without touching the segments themselves.

A growing mask appears in the segment's color; when it is written, what the click added is green and what it removed
is red. Both lie in a segmentation node of their own, which is hidden from editors and never saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from CTSAM3DLib.clicks.colors import NEGATIVE_COLOR, POSITIVE_COLOR
from CTSAM3DLib.mrml.crops import Change
from CTSAM3DLib.mrml.labelmaps import cropped_labelmap

Color = tuple[float, float, float]

FILL_OPACITY = 0.6
SHOWN_MS = 1500
"""A change is shown for so long; whoever shows it has the timer."""


class Overlay:
    """The overlay of one segment editor, in slice views only."""

    def __init__(self, scene: slicer.vtkMRMLScene, name: str = "CT-SAM3D change") -> None:
        self._scene = scene
        self._name = name
        self.node: Any = None
        """The vtkMRMLSegmentationNode while there is one, else None."""

    def show_growing(
        self, labelmap: slicer.vtkOrientedImageData, segmentation_node: slicer.vtkMRMLSegmentationNode, color: Color
    ) -> None:
        """Show a mask that is not written yet, in the segmentation's local frame."""
        self._show([("growing", labelmap, color)], segmentation_node)

    def show_change(
        self,
        change: Change,
        reference: slicer.vtkOrientedImageData,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
    ) -> None:
        """Show what a prediction added and removed; `reference` is the grid of its crops."""
        crops = [("added", change.added, POSITIVE_COLOR), ("removed", change.removed, NEGATIVE_COLOR)]
        self._show(
            [(name, cropped_labelmap(crop, reference), color) for name, crop, color in crops if crop.voxels.any()],
            segmentation_node,
        )

    def clear(self) -> None:
        """Show nothing; may be called twice, and while the scene closes."""
        if self._is_there() and not self._scene.IsClosing():  # a closing scene removes the node itself
            self._scene.RemoveNode(self.node)
        self.node = None

    def _is_there(self) -> bool:
        return self.node is not None and self.node.GetScene() is not None

    def _show(
        self,
        images: Sequence[tuple[str, slicer.vtkOrientedImageData, Color]],
        segmentation_node: slicer.vtkMRMLSegmentationNode,
    ) -> None:
        if not self._is_there():
            self.node = self._made()
        self.node.SetAndObserveTransformNodeID(segmentation_node.GetTransformNodeID())
        was_modifying = self.node.StartModify()
        self.node.GetSegmentation().RemoveAllSegments()
        for name, image, color in images:
            self.node.AddSegmentFromBinaryLabelmapRepresentation(image, name, color)
        self.node.EndModify(was_modifying)

    def _made(self) -> slicer.vtkMRMLSegmentationNode:
        node = self._scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)  # the scene and this object hold it
        node.SetName(self._name)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetVisibility3D(False)
        display.SetOpacity2DFill(FILL_OPACITY)
        return node
