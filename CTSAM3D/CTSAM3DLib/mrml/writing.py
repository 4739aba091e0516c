"""Masks into segments as the Segment Editor writes them: its editable area, its overwrite modes, its undo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

import slicer

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.mrml.clicks import drop_pending_clicks
from CTSAM3DLib.mrml.crops import Change, Crop, union
from CTSAM3DLib.mrml.labelmaps import cropped_labelmap, regrid, segment_mask, voxel_ml
from CTSAM3DLib.output import provenance

KEPT_REST_TAG = "CTSAM3D.KeptRest"
"""Radius in mm beyond which the last change of clicks left the mask as it was; absent where the mask is whole."""


UNDO_STATES = 10
"""As many as Slicer's Segment Editor keeps."""


class SegmentWriter(Protocol):
    """What a prediction needs of a segment editor: the effect's own in Slicer, `LogicSegmentWriter` elsewhere."""

    @property
    def editor_node(self) -> slicer.vtkMRMLSegmentEditorNode:
        """What is being edited, and how: segmentation, source volume, editable area, overwrite mode; it may be None."""

    def reference_image(self) -> slicer.vtkOrientedImageData:
        """The grid that segments are edited on, in the segmentation's local frame; its voxels are not asked for."""

    def save_state_for_undo(self) -> None:
        """Remember the segmentation as it is now."""

    def add(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Add the voxels of a labelmap on the reference grid to the segment."""

    def remove(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Take the voxels of a labelmap on the reference grid away from the segment."""

    def replace(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Replace the segment by a labelmap on the reference grid, within the editable area."""


class LogicSegmentWriter:
    """A SegmentWriter over `vtkSlicerSegmentEditorLogic`, for scripts and tests: no window, no effect.

    Without an `editor_node` one is made that allows edits everywhere and lets segments overlap, so that no segment
    takes anything away from another; `close` removes it. Of more than `undo_states` the oldest are forgotten.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLScalarVolumeNode | None,
        editor_node: slicer.vtkMRMLSegmentEditorNode | None = None,
        undo_states: int = UNDO_STATES,
    ) -> None:
        self._own_node = editor_node is None
        if editor_node is None:
            editor_node = slicer.vtkMRMLSegmentEditorNode()
            editor_node.SetSaveWithScene(False)
            editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
            scene.AddNode(editor_node)
        self.editor_node = editor_node
        if volume_node is not None and not _has_geometry(segmentation_node):
            segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        editor_node.SetAndObserveSegmentationNode(segmentation_node)
        editor_node.SetAndObserveSourceVolumeNode(volume_node)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(scene)
        self._logic.SetSegmentEditorNode(editor_node)
        self._logic.SetMaximumNumberOfUndoStates(undo_states)

    def reference_image(self) -> slicer.vtkOrientedImageData:
        """The grid that segments are edited on. Raises CTSAM3DError where there is none."""
        if not self._logic.UpdateReferenceGeometryImage():
            raise CTSAM3DError("The segmentation has no geometry; choose its source volume first.")
        return self._logic.GetReferenceGeometryImage()

    def save_state_for_undo(self) -> None:
        """Remember the segmentation as it is now."""
        self._logic.SaveStateForUndo()

    def add(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Add voxels to the segment."""
        self._modify(segment_id, labelmap, self._logic.ModificationModeAdd)

    def remove(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Take voxels away from the segment."""
        self._modify(segment_id, labelmap, self._logic.ModificationModeRemove)

    def replace(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Replace the segment, within the editable area."""
        self._modify(segment_id, labelmap, self._logic.ModificationModeSet)

    def can_undo(self) -> bool:
        """Whether a state was saved to go back to."""
        return bool(self._logic.CanUndo())

    def can_redo(self) -> bool:
        """Whether an undo can be taken back."""
        return bool(self._logic.CanRedo())

    def undo(self) -> None:
        """Go back to the state that was saved last."""
        self._logic.Undo()

    def redo(self) -> None:
        """Take an undo back."""
        self._logic.Redo()

    def close(self) -> None:
        """Remove the editor node if it was made here; the undo states go with it."""
        self._logic.SetSegmentEditorNode(None)
        scene = self.editor_node.GetScene()
        if self._own_node and scene is not None:
            scene.RemoveNode(self.editor_node)

    def _modify(self, segment_id: str, labelmap: slicer.vtkOrientedImageData, mode: int) -> None:
        self._logic.UpdateReferenceGeometryImage()
        if self.editor_node.GetSourceVolumeIntensityMask():
            self._logic.UpdateAlignedSourceVolume()
        node = self.editor_node.GetSegmentationNode()
        self._logic.ModifySegmentByLabelmap(node, segment_id, labelmap, mode, True, False)

    def __enter__(self) -> LogicSegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_mask(writer: SegmentWriter, segment_id: str, mask: Crop, tags: Mapping[str, str]) -> Change:
    """Give a segment a new mask and the tags that say how it was made, the clicks among them; one undo state.

    Tags of an earlier mask that these do not name are taken away. Only what differs is added and removed, which is
    mostly several times faster than Slicer's replacement of the whole segment (`Set`). That is used where editing is
    confined to some area, since it alone leaves everything outside as it is; and over both the old and the new mask,
    since beyond its labelmap it clears the segment, whether that may be edited or not.
    """
    editor_node, reference = writer.editor_node, writer.reference_image()
    node = editor_node.GetSegmentationNode()
    segment = node.GetSegmentation().GetSegment(segment_id)
    before = segment_mask(node, segment_id, reference)
    drop_pending_clicks(segment)  # they are answered now, and belong to no state that an undo could bring back
    writer.save_state_for_undo()
    for name in {*provenance.TAGS, KEPT_REST_TAG} - tags.keys():
        segment.RemoveTag(name)
    for name, value in tags.items():
        segment.SetTag(name, value)
    wanted = Change.between(before, mask, voxel_ml(reference))
    with _selected(editor_node, segment_id):
        if _is_confined(editor_node):
            regrid(node, segment_id, reference)
            first, shape = union(before, mask)
            writer.replace(segment_id, cropped_labelmap(Crop(mask.on(first, shape), first), reference))
        else:
            for crop, write in ((wanted.added, writer.add), (wanted.removed, writer.remove)):
                if crop.voxels.size:
                    write(segment_id, cropped_labelmap(crop, reference))
    return wanted.found_in(segment_mask(node, segment_id, reference))


@contextmanager
def _selected(editor_node: slicer.vtkMRMLSegmentEditorNode, segment_id: str) -> Iterator[None]:
    """Let a segment be the selected one, which Slicer's editable area depends on, without telling anybody."""
    before, silent = editor_node.GetSelectedSegmentID(), editor_node.GetDisableModifiedEvent()
    editor_node.SetDisableModifiedEvent(True)
    try:
        editor_node.SetSelectedSegmentID(segment_id)
        yield
    finally:
        editor_node.SetSelectedSegmentID(before)
        editor_node.SetDisableModifiedEvent(silent)


def _is_confined(editor_node: slicer.vtkMRMLSegmentEditorNode) -> bool:
    everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    return bool(editor_node.GetMaskMode() != everywhere or editor_node.GetSourceVolumeIntensityMask())


def _has_geometry(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    return bool(segmentation_node.GetSegmentation().GetConversionParameter(name))
