"""Clicks in a segment's tags, and the control points in which they are seen and edited.

`CTSAM3D.Clicks` holds the clicks that the segment's mask was made of. `CTSAM3D.PendingClicks` holds, beside it, those
of a prediction that is still on its way or has failed: the user's last word, which must not be lost with a server.
"""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk

from CTSAM3DLib.clicks.click import Click, clicks_from_json, clicks_to_tag
from CTSAM3DLib.clicks.sign import is_negative
from CTSAM3DLib.clicks.tables import ClicksBySegment, clicks_of_rows, split_label
from CTSAM3DLib.mrml.frames import to_local, to_world
from CTSAM3DLib.output.provenance import CLICKS_TAG

PENDING_TAG = "CTSAM3D.PendingClicks"


def clicks_of(segment: slicer.vtkSegment) -> list[Click]:
    """The clicks to show and to go on from, LPS in the local frame: pending ones, else those of the mask.

    Raises ClickError where a tag was written by something else.
    """
    pending = pending_clicks(segment)
    return mask_clicks(segment) if pending is None else pending


def mask_clicks(segment: slicer.vtkSegment) -> list[Click]:
    """The clicks that the segment's mask was made of, LPS in the local frame. Raises ClickError."""
    return _read(segment, CLICKS_TAG) or []


def pending_clicks(segment: slicer.vtkSegment) -> list[Click] | None:
    """The clicks that wait for their mask, LPS in the local frame; None where none do. Raises ClickError."""
    return _read(segment, PENDING_TAG)


def set_pending_clicks(segment: slicer.vtkSegment, clicks: Sequence[Click]) -> None:
    """Keep clicks (LPS in the local frame) until their mask is there."""
    segment.SetTag(PENDING_TAG, clicks_to_tag(clicks))


def drop_pending_clicks(segment: slicer.vtkSegment) -> None:
    """Forget clicks that wait for their mask."""
    segment.RemoveTag(PENDING_TAG)


def waits_for(segment: slicer.vtkSegment, clicks: Sequence[Click]) -> bool:
    """Whether exactly these clicks wait for their mask."""
    value = vtk.reference("")
    return bool(segment.GetTag(PENDING_TAG, value)) and str(value) == clicks_to_tag(clicks)


def read_points(
    markups_node: slicer.vtkMRMLMarkupsNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> list[Click]:
    """The placed control points as clicks, LPS in the segmentation's local frame.

    `CTSAM3DLib.clicks.sign.is_negative` says which points are negative. Points that are only previewed under the
    mouse, or skipped, are left out.
    """
    return [
        Click(to_local(world, segmentation_node), not is_negative(*_words(markups_node, index)))
        for index, world in _placed(markups_node)
    ]


def read_labelled_points(
    markups_node: slicer.vtkMRMLMarkupsNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> ClicksBySegment:
    """The placed control points by the segment that their labels name ("liver", "-liver"); see `read_points`.

    A point whose label is only a sign belongs to the segment that is called as the node is.
    """
    clicks: ClicksBySegment = {}
    for index, world in _placed(markups_node):
        name, positive = split_label(*_words(markups_node, index))
        click = Click(to_local(world, segmentation_node), positive)
        clicks.setdefault(name or markups_node.GetName(), []).append(click)
    return clicks


def read_table_node(
    table_node: slicer.vtkMRMLTableNode, segmentation_node: slicer.vtkMRMLSegmentationNode
) -> ClicksBySegment:
    """The clicks by segment in a table node with the columns of `batch.clicks_of_rows`, positions in world mm."""
    columns = range(table_node.GetNumberOfColumns())
    names = [table_node.GetColumnName(column) for column in columns]
    rows = [
        dict(zip(names, (table_node.GetCellText(row, column) for column in columns), strict=True))
        for row in range(table_node.GetNumberOfRows())
    ]
    return world_to_local(clicks_of_rows(rows), segmentation_node)


def world_to_local(clicks: ClicksBySegment, segmentation_node: slicer.vtkMRMLSegmentationNode) -> ClicksBySegment:
    """Clicks in LPS of the world, brought into the segmentation's local frame."""

    def moved(click: Click) -> Click:
        l, p, s = click.position  # noqa: E741 - the axes' names
        return Click(to_local((-l, -p, s), segmentation_node), click.positive)

    return {name: [moved(click) for click in of_segment] for name, of_segment in clicks.items()}


def write_points(
    clicks: Sequence[Click],
    markups_node: slicer.vtkMRMLMarkupsNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
) -> None:
    """Show clicks (LPS in the local frame) as the node's control points, in place of those that it has."""
    was_modifying = markups_node.StartModify()
    try:
        markups_node.RemoveAllControlPoints()
        for number, click in enumerate(clicks, start=1):
            label = f"{'+' if click.positive else '-'}{number}"
            world = vtk.vtkVector3d(to_world(click.position, segmentation_node))
            index = markups_node.AddControlPointWorld(world, label)
            markups_node.SetNthControlPointDescription(index, "positive" if click.positive else "negative")
    finally:
        markups_node.EndModify(was_modifying)


def _read(segment: slicer.vtkSegment, tag: str) -> list[Click] | None:
    value = vtk.reference("")
    if not segment.GetTag(tag, value):
        return None
    return clicks_from_json(str(value))


def _placed(markups_node: slicer.vtkMRMLMarkupsNode) -> list[tuple[int, tuple[float, float, float]]]:
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    return [
        (index, markups_node.GetNthControlPointPositionWorld(index))
        for index in range(markups_node.GetNumberOfControlPoints())
        if markups_node.GetNthControlPointPositionStatus(index) == defined
    ]


def _words(markups_node: slicer.vtkMRMLMarkupsNode, index: int) -> tuple[str, str, str]:
    """What is written at a point: its label, its description, and the name of its list."""
    return (
        markups_node.GetNthControlPointLabel(index),
        markups_node.GetNthControlPointDescription(index),
        markups_node.GetName() or "",
    )
