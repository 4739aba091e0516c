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
    def segmentation_node(self):
        """The segmentation that is being edited."""
        parameterSetNode = self._scriptedEffect.parameterSetNode()
        return None if parameterSetNode is None else parameterSetNode.GetSegmentationNode()

    def reference_image(self):
        """The grid that segments are edited on."""
        return self._scriptedEffect.referenceGeometryImage()

    def save_state_for_undo(self) -> None:
        """Remember the segmentation as it is now."""
        if not self._undoStateIsSaved:
            self._scriptedEffect.saveStateForUndo()

    def add(self, segment_id: str, labelmap) -> None:
        """Add voxels to the segment, within the editable area."""
        mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd
        self._scriptedEffect.modifySegmentByLabelmap(self.segmentation_node, segment_id, labelmap, mode)

    def remove(self, segment_id: str, labelmap) -> None:
        """Take voxels away from the segment, within the editable area."""
        mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeRemove
        self._scriptedEffect.modifySegmentByLabelmap(self.segmentation_node, segment_id, labelmap, mode)
