"""What the user does to the clicks of the selected segment, and the masks that are asked for.

Every edit is another list of clicks; the list is sent for its mask, and the segment gets both together. Until then,
and where that fails, the list waits in the segment's own tag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slicer.i18n import tr as _

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ClickError, CTSAM3DError, VolumeError
from CTSAM3DLib.mrml.clicks import clicks_of, mask_clicks, pending_clicks, set_pending_clicks
from CTSAM3DLib.mrml.frames import to_local
from CTSAM3DLib.mrml.predictor import Target
from CTSAM3DWidgets.PredictionDriver import PredictionDriver
from SegmentEditorCTSAM3DLib.EffectSegmentWriter import EffectSegmentWriter
from SegmentEditorCTSAM3DLib.TakenBackClicks import SegmentKey, TakenBackClicks


class SegmentClicks:
    """The clicks of whatever segment is selected in one segment editor. Nothing here is a widget.

    `choose()` gives the backend to ask, or raises CTSAM3DError where the user has not agreed to it or it is not
    installed. Every method that asks for a mask raises CTSAM3DError with a sentence for the user.
    """

    def __init__(self, scriptedEffect, driver: PredictionDriver, choose: Callable[[], object]) -> None:
        self._scriptedEffect = scriptedEffect
        self._driver = driver
        self._choose = choose
        self._takenBack = TakenBackClicks()

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
        return [] if target is None else clicks_of(target.segment())

    def isWaiting(self) -> bool:
        """Whether the segment has clicks that no mask answers yet. Raises ClickError."""
        target = self.target()
        return target is not None and pending_clicks(target.segment()) is not None

    def canRedo(self) -> bool:
        """Whether a list of the selected segment was taken back."""
        target = self.target()
        return target is not None and _key(target) in self._takenBack

    # What the user does

    def add(self, worldRas: Sequence[float], positive: bool, inNewSegment: bool = False) -> None:
        """A click at a place in world RAS; in a segment of its own, if the selected one has clicks already."""
        target = self._existingTarget()
        if inNewSegment and positive and clicks_of(target.segment()):
            self._askForNewSegment(target, self._click(worldRas, positive, target))
        else:
            self.replace([*clicks_of(target.segment()), self._click(worldRas, positive, target)])

    def replace(self, clicks: Sequence[Click]) -> None:
        """Another list, as after a drag or a deletion."""
        target = self._existingTarget()
        self._takenBack.forget(_key(target))
        self._ask(target, clicks)

    def undo(self) -> None:
        """Take the last click back."""
        target = self._existingTarget()
        clicks = clicks_of(target.segment())
        if clicks:
            self._takenBack.push(_key(target), clicks)
            self._ask(target, clicks[:-1])

    def redo(self) -> None:
        """Bring the list back that was taken back last."""
        target = self._existingTarget()
        if _key(target) in self._takenBack:
            self._ask(target, self._takenBack.pop(_key(target)))

    def clear(self) -> None:
        """Take all clicks back at once."""
        target = self._existingTarget()
        clicks = clicks_of(target.segment())
        if clicks:
            self._takenBack.push(_key(target), clicks)
            self._ask(target, [])

    def tryAgain(self) -> None:
        """Ask once more for the mask of the clicks that wait."""
        target = self._existingTarget()
        if pending_clicks(target.segment()) is not None:
            self._ask(target, clicks_of(target.segment()))

    def cancel(self) -> None:
        """Stop; every segment keeps its mask and the clicks of that mask. Redo brings the others back."""
        for target in self._driver.busyTargets():
            if target.segment() is not None:
                self._takenBack.push(_key(target), clicks_of(target.segment()))
        self._driver.cancel()

    def forgetTakenBack(self) -> None:
        """Nothing can be brought back any more, as when the scene closes."""
        self._takenBack.clear()

    # How it is done

    def _existingTarget(self) -> Target:
        target = self.target()
        if target is None:
            raise VolumeError(_("There is nothing to click on; choose a source volume and a segment first."))
        return target

    def _ask(self, target: Target, clicks: Sequence[Click], undoStateIsSaved: bool = False) -> None:
        if clicks and not _anyPositive(clicks) and not _anyPositive(mask_clicks(target.segment())):
            # An answer would empty the segment, which may have been painted by hand.
            set_pending_clicks(target.segment(), clicks)
            raise ClickError(_("So far all clicks are outside; click inside the structure, too."))
        try:
            choice = self._choose()
        except CTSAM3DError:
            set_pending_clicks(target.segment(), clicks)  # kept, until the user agrees or chooses another backend
            raise
        effect = self._scriptedEffect
        keep = effect.integerParameter("KeepTheRest") != 0
        self._driver.predict(
            choice,
            target,
            clicks,
            EffectSegmentWriter(effect, undoStateIsSaved),
            effect.parameter("Reach"),
            effect.doubleParameter("KeepRadiusMm") if keep else None,
        )

    def _askForNewSegment(self, target: Target, click: Click) -> None:
        """Ask for the mask of a click in a segment of its own, which a click that is refused does not leave behind."""
        new = self._addSegment(target)
        try:
            self._ask(new, [click], undoStateIsSaved=True)
        except CTSAM3DError:
            if pending_clicks(new.segment()) is None:
                self._scriptedEffect.parameterSetNode().SetSelectedSegmentID(target.segment_id)
                target.segmentation_node.GetSegmentation().RemoveSegment(new.segment_id)
            raise

    def _click(self, worldRas: Sequence[float], positive: bool, target: Target) -> Click:
        return Click(to_local(worldRas, target.segmentation_node), positive)

    def _addSegment(self, target: Target) -> Target:
        """A new segment like the target's, selected; the undo state is that of before."""
        self._scriptedEffect.saveStateForUndo()
        segmentation = target.segmentation_node.GetSegmentation()
        segmentID = segmentation.AddEmptySegment()
        segmentation.GetSegment(segmentID).SetTerminology(target.segment().GetTerminology())
        self._scriptedEffect.parameterSetNode().SetSelectedSegmentID(segmentID)
        return Target(target.segmentation_node, segmentID, target.volume_node)


def _anyPositive(clicks: Sequence[Click]) -> bool:
    return any(click.positive for click in clicks)


def _key(target: Target) -> SegmentKey:
    return target.segmentation_node.GetID(), target.segment_id
