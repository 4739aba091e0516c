"""A growing mask, and for a moment what changed, shown over the views."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from CTSAM3DLib.mrml.crops import Change
from CTSAM3DLib.mrml.overlay import SHOWN_MS, Overlay


class ChangeDisplay:
    """The overlay of one effect, with the timer that ends it."""

    def __init__(self, scene) -> None:
        self._overlay = Overlay(scene, _("CT-SAM3D change"))
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(SHOWN_MS)
        self._timer.connect("timeout()", self.clear)

    @property
    def node(self):
        """The segmentation node while something is shown, else None."""
        return self._overlay.node

    def showGrowing(self, labelmap, segmentationNode, color: tuple[float, float, float]) -> None:
        """Show a mask that is not written yet (vtkOrientedImageData in the segmentation's local frame)."""
        self._timer.stop()
        self._overlay.show_growing(labelmap, segmentationNode, color)

    def showChange(self, change: Change, reference, segmentationNode) -> None:
        """Show for a moment what a prediction added and removed; `reference` is the grid of its crops."""
        self._overlay.show_change(change, reference, segmentationNode)
        self._timer.start()

    def clear(self) -> None:
        """Show nothing; may be called twice, and while the scene closes."""
        self._timer.stop()
        self._overlay.clear()

    def close(self) -> None:
        """Show nothing any more."""
        self.clear()
        self._timer.disconnect("timeout()", self.clear)
