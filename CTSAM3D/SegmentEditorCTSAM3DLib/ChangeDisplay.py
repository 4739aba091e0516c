"""What is on its way and what has changed, shown over the views without touching the segments themselves.

A growing mask appears in the segment's color; when it is written, what the click added is green and what it removed
is red for a moment. Both lie in a segmentation node of their own, which is hidden from editors and never saved.
"""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from CTSAM3DLib.mrml.crops import Change
from CTSAM3DLib.mrml.labelmaps import cropped_labelmap

ADDED_COLOR = (0.2, 0.9, 0.3)
REMOVED_COLOR = (1.0, 0.25, 0.2)
SHOWN_MS = 1500
FILL_OPACITY = 0.6


class ChangeDisplay:
    """The overlay of one effect."""

    def __init__(self, scene) -> None:
        self._scene = scene
        self._node = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(SHOWN_MS)
        self._timer.connect("timeout()", self.clear)

    def showGrowing(self, labelmap, segmentationNode, color: tuple[float, float, float]) -> None:
        """Show a mask that is not written yet (vtkOrientedImageData in the segmentation's local frame)."""
        self._timer.stop()
        self._show([(_("growing"), labelmap, color)], segmentationNode)

    def showChange(self, change: Change, reference, segmentationNode) -> None:
        """Show for a moment what a prediction added and removed; `reference` is the grid of its crops."""
        crops = [(_("added"), change.added, ADDED_COLOR), (_("removed"), change.removed, REMOVED_COLOR)]
        self._show(
            [(name, cropped_labelmap(crop, reference), color) for name, crop, color in crops if crop.voxels.any()],
            segmentationNode,
        )
        self._timer.start()

    def clear(self) -> None:
        """Show nothing; may be called twice, and while the scene closes."""
        self._timer.stop()
        if self._isThere() and not self._scene.IsClosing():  # a closing scene removes the node itself
            self._scene.RemoveNode(self._node)
        self._node = None

    def close(self) -> None:
        """Show nothing any more."""
        self.clear()
        self._timer.disconnect("timeout()", self.clear)

    def _isThere(self) -> bool:
        return self._node is not None and self._node.GetScene() is not None

    def _show(self, images, segmentationNode) -> None:
        node = self._ensureNode()
        node.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
        wasModified = node.StartModify()
        node.GetSegmentation().RemoveAllSegments()
        for name, image, color in images:
            node.AddSegmentFromBinaryLabelmapRepresentation(image, name, color)
        node.EndModify(wasModified)

    def _ensureNode(self):
        if not self._isThere():
            node = self._scene.CreateNodeByClass("vtkMRMLSegmentationNode")
            node.UnRegister(None)  # the scene and this object hold it
            node.SetName(_("CT-SAM3D change"))
            node.SetSaveWithScene(False)
            node.SetHideFromEditors(True)
            self._scene.AddNode(node)
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetSaveWithScene(False)
            display.SetVisibility3D(False)
            display.SetOpacity2DFill(FILL_OPACITY)
            self._node = node
        return self._node
