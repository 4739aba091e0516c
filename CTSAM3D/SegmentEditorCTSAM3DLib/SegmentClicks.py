"""The library's click editor on the segment that is selected in one segment editor of Slicer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slicer.i18n import tr as _

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError, VolumeError
from CTSAM3DLib.interaction.backends import BackendChoice
from CTSAM3DLib.interaction.click_editor import ClickEditor
from CTSAM3DLib.mrml.clicked_segments import SceneSegments
from CTSAM3DLib.mrml.frames import to_local
from CTSAM3DLib.mrml.predictor import Target
from CTSAM3DWidgets.PredictionDriver import PredictionDriver
from SegmentEditorCTSAM3DLib.EffectSegmentWriter import EffectSegmentWriter


class SegmentClicks:
    """The clicks of whatever segment is selected. Nothing here is a widget.

    `choose()` gives the backend to ask, or raises CTSAM3DError where the user has not agreed to it or it is not
    installed. Every method that asks for a mask raises CTSAM3DError with a sentence for the user.
    """

    def __init__(self, scriptedEffect, driver: PredictionDriver, choose: Callable[[], BackendChoice]) -> None:
        self._scriptedEffect = scriptedEffect
        self._driver = driver
        self._segments = SceneSegments(driver)
        # Slicer gives effects no way into the Segment Editor's own history, so that the editor has none to walk.
        self._editor: ClickEditor[Target, BackendChoice] = ClickEditor(self._segments, choose, self._predict)
        self._justAdded: Target | None = None

    # What there is

    def target(self) -> Target | None:
        """The selected segment and the source volume; None where either is missing or has left the scene."""
        node = self._scriptedEffect.parameterSetNode()
        if node is None or not node.GetSelectedSegmentID():
            return None
        segmentationNode, volumeNode = node.GetSegmentationNode(), node.GetSourceVolumeNode()
        if segmentationNode is None or volumeNode is None:
            return None
        target = Target(segmentationNode, node.GetSelectedSegmentID(), volumeNode)
        return None if target.segment() is None else target

    def clicks(self) -> list[Click]:
        """The list that the user sees: the clicks on their way, else those of the mask. Raises ClickError."""
        target = self.target()
        return [] if target is None else self._segments.clicks(target)

    def isWaiting(self) -> bool:
        """Whether the segment has clicks that no mask answers yet. Raises ClickError."""
        target = self.target()
        return target is not None and self._segments.is_pending(target)

    def canUndo(self) -> bool:
        """Whether an edit of the selected segment can be taken back. Raises ClickError."""
        target = self.target()
        return target is not None and self._editor.can_undo(target)

    def canRedo(self) -> bool:
        """Whether an edit of the selected segment was taken back. Raises ClickError."""
        target = self.target()
        return target is not None and self._editor.can_redo(target)

    # What the user does

    def add(self, worldRas: Sequence[float], positive: bool, inNewSegment: bool = False) -> None:
        """A click at a place in world RAS; in a segment of its own, if the selected one has clicks already."""
        target = self._existingTarget()
        click = Click(to_local(worldRas, target.segmentation_node), positive)
        if inNewSegment and positive and self._segments.clicks(target):
            self._addInNewSegment(target, click)
        else:
            self._editor.add(target, click)

    def replace(self, clicks: Sequence[Click]) -> None:
        """Another list, as after a drag or a deletion."""
        self._editor.replace(self._existingTarget(), clicks)

    def undo(self) -> bool:
        """Take the last edit back; whether that was only to drop what was on its way."""
        return self._editor.undo(self._existingTarget())

    def redo(self) -> bool:
        """Take it anew; whether that was only to drop what was on its way."""
        return self._editor.redo(self._existingTarget())

    def clear(self) -> None:
        """Take all clicks away."""
        self._editor.clear(self._existingTarget())

    def tryAgain(self) -> None:
        """Ask once more for the mask of the clicks that wait."""
        self._editor.try_again(self._existingTarget())

    def cancel(self) -> None:
        """Stop; every segment keeps its mask and the clicks of that mask. Redo brings the others back."""
        self._editor.cancel(self._driver.targets())

    def forget(self) -> None:
        """Nothing can be taken back or anew any more, as when the scene closes."""
        self._editor.forget()

    # How it is done

    def _existingTarget(self) -> Target:
        target = self.target()
        if target is None:
            raise VolumeError(_("There is nothing to click on; choose a source volume and a segment first."))
        return target

    def _predict(self, choice: BackendChoice, target: Target, clicks: list[Click]) -> None:
        effect = self._scriptedEffect
        writer = EffectSegmentWriter(effect, undoStateIsSaved=target == self._justAdded)
        keep = effect.doubleParameter("KeepRadiusMm") if effect.integerParameter("KeepTheRest") != 0 else None
        self._driver.predict(choice, target, clicks, writer, effect.parameter("Reach"), keep)

    def _addInNewSegment(self, target: Target, click: Click) -> None:
        """A click in a segment of its own, which a click that is refused does not leave behind."""
        self._justAdded = new = self._addSegment(target)
        try:
            self._editor.add(new, click)
        except CTSAM3DError:
            if not self._segments.is_pending(new):
                self._scriptedEffect.parameterSetNode().SetSelectedSegmentID(target.segment_id)
                target.segmentation_node.GetSegmentation().RemoveSegment(new.segment_id)
            raise
        finally:
            self._justAdded = None

    def _addSegment(self, target: Target) -> Target:
        """A new segment like the target's, selected; the undo state is that of before."""
        self._scriptedEffect.saveStateForUndo()
        segmentation = target.segmentation_node.GetSegmentation()
        segmentID = segmentation.AddEmptySegment()
        segmentation.GetSegment(segmentID).SetTerminology(target.segment().GetTerminology())
        self._scriptedEffect.parameterSetNode().SetSelectedSegmentID(segmentID)
        return Target(target.segmentation_node, segmentID, target.volume_node)
