"""How masks get into segments: by the effect, as with every other effect of the Segment Editor."""

from __future__ import annotations

import slicer


class EffectSegmentWriter:
    """A SegmentWriter of CTSAM3DLib over the effect: editable area, overwrite mode and undo are the editor's own."""

    def __init__(self, scriptedEffect, undoStateIsSaved: bool = False) -> None:
        """`undoStateIsSaved`: the state before this prediction is in the history, with the segment not yet added."""
        self._scriptedEffect = scriptedEffect
        self._undoStateIsSaved = undoStateIsSaved

    @property
    def editor_node(self):
        """What is being edited and where, or None."""
        return self._scriptedEffect.parameterSetNode()

    def reference_image(self):
        """The grid that segments are edited on."""
        return self._scriptedEffect.referenceGeometryImage()

    def save_state_for_undo(self) -> None:
        """Remember the segmentation as it is now."""
        if not self._undoStateIsSaved:
            self._scriptedEffect.saveStateForUndo()

    def add(self, segment_id: str, labelmap) -> None:
        """Add voxels to the segment."""
        self._modify(segment_id, labelmap, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd)

    def remove(self, segment_id: str, labelmap) -> None:
        """Take voxels away from the segment."""
        self._modify(segment_id, labelmap, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeRemove)

    def replace(self, segment_id: str, labelmap) -> None:
        """Replace the segment, within the editable area."""
        self._modify(segment_id, labelmap, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet)

    def _modify(self, segment_id: str, labelmap, mode) -> None:
        segmentationNode = self._scriptedEffect.parameterSetNode().GetSegmentationNode()
        self._scriptedEffect.modifySegmentByLabelmap(segmentationNode, segment_id, labelmap, mode)
