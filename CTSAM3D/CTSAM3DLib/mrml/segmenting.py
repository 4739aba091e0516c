"""What every prediction of a segment begins and ends with, whether somebody waits for it or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import slicer

from CTSAM3DLib.clicks.click import Click, clicks_to_tag
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.mrml import crops
from CTSAM3DLib.mrml.clicks import mask_clicks
from CTSAM3DLib.mrml.crops import Change, Crop
from CTSAM3DLib.mrml.frames import OutputGrid
from CTSAM3DLib.mrml.labelmaps import check_labelmaps, segment_mask
from CTSAM3DLib.mrml.writing import KEPT_REST_TAG, SegmentWriter, write_mask
from CTSAM3DLib.output import provenance
from CTSAM3DLib.segmentation.result import Result


@dataclass(frozen=True)
class Target:
    """A segment, and the CT that it is made from."""

    segmentation_node: slicer.vtkMRMLSegmentationNode
    segment_id: str
    volume_node: slicer.vtkMRMLScalarVolumeNode

    def segment(self) -> slicer.vtkSegment | None:
        """The segment, or None where it, its segmentation or the volume is no longer in the scene."""
        nodes = self.segmentation_node, self.volume_node
        if any(node is None or node.GetScene() is None for node in nodes):
            return None
        return self.segmentation_node.GetSegmentation().GetSegment(self.segment_id)


@dataclass(frozen=True, eq=False)
class Written:
    """A mask that is in the segment now; without a positive click there is no result, and the mask is empty."""

    target: Target
    result: Result | None
    change: Change


def is_edited(target: Target, writer: SegmentWriter) -> bool:
    """Whether the writer edits the target's segmentation."""
    editor_node = writer.editor_node
    return editor_node is not None and editor_node.GetSegmentationNode() == target.segmentation_node


def check_target(target: Target, writer: SegmentWriter) -> slicer.vtkSegment:
    """The target's segment. Raises CTSAM3DError where it is gone, not edited by the writer, or cannot be written."""
    segment = target.segment()
    if segment is None:
        raise CTSAM3DError("The segment or its volume is no longer there; choose a segment and a source volume.")
    if not is_edited(target, writer):
        raise CTSAM3DError("The segment belongs to another segmentation than the edited one; choose it first.")
    check_labelmaps(target.segmentation_node)
    return segment


def write_nothing(target: Target, writer: SegmentWriter, clicks: Sequence[Click]) -> Written:
    """Empty the mask, as clicks without a positive one ask for; they are kept for the positive one to come."""
    tags = {provenance.CLICKS_TAG: clicks_to_tag(clicks)} if clicks else {}
    return Written(target, None, write_mask(writer, target.segment_id, Crop.empty(), tags))


def write_result(
    target: Target, writer: SegmentWriter, result: Result, grid: OutputGrid, keep_radius_mm: float | None = None
) -> Written:
    """Write a result, which is on the output grid's geometry, into its segment.

    With `keep_radius_mm` the mask changes only so near to the clicks that were added, moved or removed.
    """
    mask = crops.placed(*result.cropped, grid.first)
    tags = provenance.tags(result)
    if keep_radius_mm is not None:
        before = segment_mask(target.segmentation_node, target.segment_id, writer.reference_image())
        changed = set(mask_clicks(target.segment())) ^ set(result.clicks)
        points = [click.position for click in changed]
        mask = crops.keep_rest(before, mask, points, keep_radius_mm, grid.geometry, grid.first)
        tags[KEPT_REST_TAG] = f"{keep_radius_mm:g}"
    return Written(target, result, write_mask(writer, target.segment_id, mask, tags))
