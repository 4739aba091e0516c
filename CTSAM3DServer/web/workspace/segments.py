"""The segments of a workspace: what they are called, how they look, and what undo goes back to."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import slicer

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.mrml.clicks import clicks_of, pending_clicks, set_pending_clicks
from CTSAM3DLib.mrml.labelmaps import segment_mask, voxel_ml
from CTSAM3DLib.mrml.segmenting import Target
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from CTSAM3DLib.output.pictures import PALETTE
from CTSAM3DServer.web.scene.persistence import SavedSegment
from CTSAM3DServer.web.scene.scene import Scene
from CTSAM3DServer.web.scene.terminology import Term

UNDO_STATES = 50
"""States share the voxels of all segments that a step did not change."""
SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


class SurfacelessWriter(LogicSegmentWriter):
    """Takes the surface of a segment away before its voxels change, so that no mask waits for a new one.

    The view in 3D keeps its picture until the new one is there.
    """

    def __init__(self, scene: Scene, node: slicer.vtkMRMLSegmentationNode, ct: slicer.vtkMRMLScalarVolumeNode) -> None:
        super().__init__(scene.mrml, node, ct, scene.editor.editor_node, UNDO_STATES)
        self._views = scene

    def _modify(self, segment_id: str, labelmap: slicer.vtkOrientedImageData, mode: int) -> None:
        self._views.hold_surfaces()
        self.editor_node.GetSegmentationNode().GetSegmentation().GetSegment(segment_id).RemoveRepresentation(SURFACE)
        super()._modify(segment_id, labelmap, mode)


class Segments:
    """The segments on one CT. Everything is undone by Slicer's own history: clicks, masks, names, colours.

    It is the `History` of the library's click editor.
    """

    def __init__(self, scene: Scene, ct: slicer.vtkMRMLScalarVolumeNode) -> None:
        self._scene = scene
        self.editor = editor = scene.editor
        self.ct = ct
        self.node = editor.create_empty_segmentation_node()
        self.node.SetName(f"{ct.GetName()} segmentation")
        editor.set_active_segmentation(self.node, ct)
        editor.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
        self.writer = SurfacelessWriter(scene, self.node, ct)
        self._millilitres: dict[str, tuple[Hashable, float]] = {}
        self.select(self._added("Segment 1"))

    def close(self) -> None:
        """Take the segments out of the scene."""
        self.writer.close()
        self._scene.mrml.RemoveNode(self.node)

    @property
    def _segmentation(self) -> slicer.vtkSegmentation:
        return self.node.GetSegmentation()

    # Which there are

    def ids(self) -> list[str]:
        """The segments in their order."""
        return list(self._segmentation.GetSegmentIDs())

    def selected(self) -> str:
        """The segment that clicks belong to; empty where there is none."""
        return str(self.editor.active_segment_id)

    def target(self) -> Target | None:
        """The selected segment and the CT."""
        return Target(self.node, self.selected(), self.ct) if self.selected() else None

    def name(self, segment_id: str) -> str:
        """What a segment is called."""
        return str(self._segmentation.GetSegment(segment_id).GetName())

    def clicks(self, segment_id: str) -> list[Click]:
        """The clicks of a segment, LPS, those among them that wait for their mask. Raises ClickError."""
        return clicks_of(self._segmentation.GetSegment(segment_id))

    def described(self) -> list[dict[str, Any]]:
        """What the page shows of each segment."""
        return [self._described(segment_id) for segment_id in self.ids()]

    # What the user does to them

    def select(self, segment_id: str) -> None:
        """Let clicks belong to this segment."""
        self.editor.set_active_segment_id(segment_id)

    def add(self) -> None:
        """Add a segment and select it."""
        self.writer.save_state_for_undo()
        self.select(self._added(self._free_name()))

    def restore(self, saved: Sequence[SavedSegment], selected: int) -> None:
        """Have the saved segments, if any, in place of those that there are; their clicks wait for masks."""
        before = self.ids() if saved else []
        for one in saved:
            segment_id = self._added(one.name)
            segment = self._segmentation.GetSegment(segment_id)
            segment.SetColor(*one.color)
            segment.SetTerminology(one.terminology)
            self.set_visible(segment_id, one.visible)
            if one.clicks:
                set_pending_clicks(segment, [Click.from_dict(click) for click in one.clicks])
        for segment_id in before:
            self._segmentation.RemoveSegment(segment_id)
        self.select(self.ids()[min(selected, len(self.ids()) - 1)])

    def waiting(self) -> list[Target]:
        """The segments whose clicks have no mask yet. Raises ClickError."""
        return [
            Target(self.node, segment_id, self.ct)
            for segment_id in self.ids()
            if pending_clicks(self._segmentation.GetSegment(segment_id)) is not None
        ]

    def saved(self) -> list[SavedSegment]:
        """The segments without their masks."""
        return [self._saved(segment_id) for segment_id in self.ids()]

    def remove(self, segment_id: str) -> None:
        """Take a segment away and select the one before it; without any, a new one."""
        position = self.ids().index(segment_id)
        self.writer.save_state_for_undo()
        self._segmentation.RemoveSegment(segment_id)
        if not self.ids():
            self._added(self._free_name())
        self.select(self.ids()[max(position - 1, 0)])

    def rename(self, segment_id: str, name: str) -> None:
        """Give a segment another name."""
        if name.strip() and name != self._segmentation.GetSegment(segment_id).GetName():
            self.writer.save_state_for_undo()
            self._segmentation.GetSegment(segment_id).SetName(name.strip())

    def recolor(self, segment_id: str, color: Sequence[float]) -> None:
        """Give a segment another colour, red, green and blue from 0 to 1."""
        self.writer.save_state_for_undo()
        self._segmentation.GetSegment(segment_id).SetColor(*color)

    def set_term(self, segment_id: str, term: Term) -> None:
        """Say by a standard term what a segment is; its name and colour become the term's."""
        self.writer.save_state_for_undo()
        segment = self._segmentation.GetSegment(segment_id)
        segment.SetTerminology(term.terminology)
        segment.SetName(term.name)
        segment.SetColor(*term.color)

    def set_visible(self, segment_id: str, visible: bool) -> None:
        """Show or hide a segment; nothing to undo."""
        self.node.GetDisplayNode().SetSegmentVisibility(segment_id, visible)

    def can_undo(self) -> bool:
        """Whether there is a step to go back."""
        return self.writer.can_undo()

    def can_redo(self) -> bool:
        """Whether there is a step to take anew."""
        return self.writer.can_redo()

    def undo(self) -> None:
        """Go one step back."""
        self.writer.undo()
        self._keep_selection()

    def redo(self) -> None:
        """Take an undo back."""
        self.writer.redo()
        self._keep_selection()

    # Surfaces in 3D

    def show_surfaces(self) -> None:
        """Make the surfaces of all segments that have none."""
        self._segmentation.CreateRepresentation(SURFACE, False)
        self._scene.release_surfaces()

    def drop_surfaces(self) -> None:
        """Have no surfaces any more."""
        self.node.RemoveClosedSurfaceRepresentation()
        self._scene.release_surfaces()

    def _added(self, name: str) -> str:
        color = PALETTE[len(self.ids()) % len(PALETTE)]
        return str(self._segmentation.AddEmptySegment("", name, color))

    def _free_name(self) -> str:
        names = {self._segmentation.GetSegment(segment_id).GetName() for segment_id in self.ids()}
        return next(name for n in range(1, len(names) + 2) if (name := f"Segment {n}") not in names)

    def _keep_selection(self) -> None:
        """After a step that took the selected segment away another one is selected."""
        ids = self.ids()
        if self.selected() not in ids:
            self.select(ids[-1] if ids else self._added(self._free_name()))

    def _described(self, segment_id: str) -> dict[str, Any]:
        segment = self._segmentation.GetSegment(segment_id)
        return {
            "id": segment_id,
            "name": segment.GetName(),
            "color": hex_color(segment.GetColor()),
            "visible": self.node.GetDisplayNode().GetSegmentVisibility(segment_id),
            "ml": round(self._ml(segment_id), 1),
        }

    def _saved(self, segment_id: str) -> SavedSegment:
        segment = self._segmentation.GetSegment(segment_id)
        return SavedSegment(
            name=segment.GetName(),
            color=segment.GetColor(),
            terminology=segment.GetTerminology(),
            visible=self.node.GetDisplayNode().GetSegmentVisibility(segment_id),
            clicks=[click.to_dict() for click in self.clicks(segment_id)],
        )

    def _ml(self, segment_id: str) -> float:
        """The segment's volume, counted anew only where its voxels changed."""
        segment = self._segmentation.GetSegment(segment_id)
        labelmap = self.node.GetBinaryLabelmapInternalRepresentation(segment_id)
        key = (labelmap.GetMTime() if labelmap else 0, segment.GetLabelValue())
        if self._millilitres.get(segment_id, (None, 0.0))[0] != key:
            reference = self.writer.reference_image()
            voxels = np.count_nonzero(segment_mask(self.node, segment_id, reference).voxels)
            self._millilitres[segment_id] = key, voxels * voxel_ml(reference)
        return self._millilitres[segment_id][1]


def hex_color(color: Sequence[float]) -> str:
    """A colour (red, green, blue from 0 to 1) as #rrggbb."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in color)


def rgb_color(text: str) -> tuple[float, float, float]:
    """#rrggbb as red, green and blue from 0 to 1."""
    red, green, blue = (int(text.lstrip("#")[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue
