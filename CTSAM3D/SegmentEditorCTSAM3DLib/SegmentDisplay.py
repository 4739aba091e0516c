"""What is seen of the selected segment: its clicks, a mask on its way, what changed, and the panel's texts."""

from __future__ import annotations

from slicer.i18n import tr as _

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.mrml.clicks import clicks_of
from CTSAM3DLib.mrml.labelmaps import segment_mask
from CTSAM3DLib.mrml.predictor import Failed, Growing, Target, Written
from CTSAM3DWidgets.PredictionDriver import PredictionDriver
from SegmentEditorCTSAM3DLib.ChangeDisplay import ChangeDisplay
from SegmentEditorCTSAM3DLib.ClickPoints import ClickPoints
from SegmentEditorCTSAM3DLib.OptionsPanel import OptionsPanel
from SegmentEditorCTSAM3DLib.SegmentClicks import SegmentClicks


class SegmentDisplay:
    """Brings points, overlay and panel in line with the segment; changes none of its clicks and voxels."""

    def __init__(
        self,
        panel: OptionsPanel,
        segmentClicks: SegmentClicks,
        driver: PredictionDriver,
        points: ClickPoints,
        changeDisplay: ChangeDisplay,
    ) -> None:
        self._panel = panel
        self._segmentClicks = segmentClicks
        self._driver = driver
        self._points = points
        self._changeDisplay = changeDisplay
        self._shown: tuple[Target, tuple[Click, ...]] | None = None
        self._hintedFor: Target | None = None
        self._maskStatus: tuple[Target, tuple[Click, ...]] | None = None  # whose mask the status line tells of

    def refresh(self) -> None:
        """Show the clicks of the selected segment and what can be done with them."""
        target = self._segmentClicks.target()
        try:
            clicks = self._segmentClicks.clicks()
            waiting = self._segmentClicks.isWaiting()
            canUndo, canRedo = self._segmentClicks.canUndo(), self._segmentClicks.canRedo()
        except CTSAM3DError as error:  # a tag that something else wrote; the next click replaces it
            clicks, waiting, canUndo, canRedo, self._maskStatus = [], False, False, False, None
            self._panel.showStatus(str(error))
        self._showPoints(target, clicks)
        self._endMaskStatus(target, clicks)
        self._showHint(target, clicks, waiting)
        positive = sum(click.positive for click in clicks)
        self._panel.showClicks(positive, len(clicks) - positive, canUndo, canRedo)
        self._panel.showWork(self._driver.busy(), waiting)

    def forget(self) -> None:
        """Show the points anew at the next refresh, as after a transform moved them in the world."""
        self._shown = None

    def hide(self) -> None:
        """Take everything out of the views; may be called twice, and while the scene closes."""
        self._points.hide()
        self._changeDisplay.clear()
        self._shown = None
        self._hintedFor = None

    def close(self) -> None:
        """The segment editor widget goes, and with it the timers."""
        self._points.close()
        self._changeDisplay.close()

    def showOutcome(self, outcome: Growing | Written | Failed) -> None:
        """Show that a mask grows, is written, or failed."""
        if isinstance(outcome, Growing):
            color = outcome.target.segment().GetColor()
            self._changeDisplay.showGrowing(outcome.labelmap, outcome.target.segmentation_node, color)
            self._panel.showStatus(_("{patches} so far…").format(patches=_patches(len(outcome.result.patches))))
        elif isinstance(outcome, Written):
            self._showWritten(outcome)
            segment = outcome.target.segment()
            self._maskStatus = None if segment is None else (outcome.target, tuple(clicks_of(segment)))
        else:
            self._changeDisplay.clear()
            self._panel.showStatus(str(outcome.error))

    def showCancelled(self) -> None:
        """Show that nothing is on its way any more."""
        self._changeDisplay.clear()
        self._panel.showStatus(_("Cancelled. Redo brings the click back."))

    def _showPoints(self, target: Target | None, clicks: list[Click]) -> None:
        if target is None:
            self._points.hide()
            self._shown = None
        elif (target, tuple(clicks)) != self._shown or not self._points.isThere():
            self._points.show(clicks, target.segmentation_node)
            self._shown = target, tuple(clicks)

    def _endMaskStatus(self, target: Target | None, clicks: list[Click]) -> None:
        """The Segment Editor's undo and redo bring other clicks and another mask, of which nothing was told."""
        if self._maskStatus is not None and (target, tuple(clicks)) != self._maskStatus:
            self._maskStatus = None
            if not self._driver.busy():
                self._panel.showStatus("")

    def _showHint(self, target: Target | None, clicks: list[Click], waiting: bool) -> None:
        """Say, once for each segment that is selected, what a click would do."""
        if target is not None and target == self._hintedFor:
            return
        self._hintedFor = target
        if target is None:
            self._panel.showStatus(_("Choose a source volume and a segment."))
        elif waiting:
            self._panel.showStatus(_("The last clicks of this segment have no mask yet."))
        elif clicks:
            self._panel.showStatus("")
        elif self._hasMask(target):
            self._panel.showStatus(
                _("This segment was not made by clicks: a click replaces it, unless you keep the rest.")
            )
        else:
            self._panel.showStatus(_("Click inside the structure."))

    def _hasMask(self, target: Target) -> bool:
        reference = self._panel.scriptedEffect.referenceGeometryImage()
        return bool(segment_mask(target.segmentation_node, target.segment_id, reference).voxels.any())

    def _showWritten(self, written: Written) -> None:
        status = _("{added:.1f} mL added, {removed:.1f} mL removed.").format(
            added=written.change.added_ml, removed=written.change.removed_ml
        )
        if written.result is not None:
            status += " " + _("{patches}, {model}.").format(
                patches=_patches(len(written.result.patches)), model=written.result.model.name
            )
        self._panel.showStatus(status)
        effect = self._panel.scriptedEffect
        if effect.integerParameter("ShowChange") != 0:
            reference = effect.referenceGeometryImage()
            self._changeDisplay.showChange(written.change, reference, written.target.segmentation_node)
        else:
            self._changeDisplay.clear()


def _patches(count: int) -> str:
    return _("1 patch") if count == 1 else _("{count} patches").format(count=count)
