"""One prediction, from a segment's clicks to its new mask.

    clicks -> pending tag -> worker -> still wanted? -> undo state, tags, mask

The scene itself says what is wanted: an answer is written only if its segment is still there and still waits for
exactly these clicks. Whatever else happens in the meantime, a newer click, a Slicer undo, a deleted node, a closed
scene, has changed that, and the answer is dropped. Partial masks never touch the segment, so a cancel has nothing to
put back, and one prediction makes one undo state.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import slicer

from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.interaction.prediction_worker import Answer, Failure, PredictionWorker, Preparation, Request
from CTSAM3DLib.mrml import crops
from CTSAM3DLib.mrml.clicks import drop_pending_clicks, set_pending_clicks, waits_for
from CTSAM3DLib.mrml.crops import Crop
from CTSAM3DLib.mrml.frames import OutputGrid, output_grid
from CTSAM3DLib.mrml.labelmaps import cropped_labelmap
from CTSAM3DLib.mrml.segmenting import Target, Written, check_target, is_edited, write_nothing, write_result
from CTSAM3DLib.mrml.volumes import volume_in_segmentation, volume_key
from CTSAM3DLib.mrml.writing import SegmentWriter
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DLib.segmentation.result import Result


@dataclass(frozen=True, eq=False)
class Growing:
    """A mask on its way: a preview on the reference grid, which is not in the segment."""

    target: Target
    result: Result
    labelmap: slicer.vtkOrientedImageData


@dataclass(frozen=True, eq=False)
class Failed:
    """A prediction that did not come: the mask is as before, and the clicks wait in the pending tag."""

    target: Target
    error: CTSAM3DError


@dataclass(frozen=True, eq=False)
class _Job:
    """What was asked for a target, and where its answer goes."""

    target: Target
    writer: SegmentWriter
    request: Request
    grid: OutputGrid
    keep_radius_mm: float | None


class SegmentPredictor:
    """Predictions for the segments of a scene, asked and taken on the thread that owns the scene."""

    def __init__(self, worker: PredictionWorker) -> None:
        self._worker = worker
        self._jobs: dict[Target, _Job] = {}
        self._opened: tuple[Hashable, Volume] | None = None

    def prepare(self, target: Target, writer: SegmentWriter) -> None:
        """Let the backend get ready for clicks on this target's volume. Raises CTSAM3DError."""
        check_target(target, writer)
        key, volume = self._volume(target, writer.reference_image())
        self._worker.prepare(Preparation(volume, key))

    def predict(
        self,
        target: Target,
        clicks: Sequence[Click],
        writer: SegmentWriter,
        reach: Reach = "structure",
        keep_radius_mm: float | None = None,
    ) -> Written | None:
        """Ask for the mask of these clicks (LPS of the local frame), in place of what was asked for this target.

        With `keep_radius_mm` the mask changes only so near to the clicks that were added, moved or removed. Without a
        positive click there is nothing to predict: the mask is emptied at once. Raises CTSAM3DError, with nothing
        changed, where the clicks, the volume or the segmentation cannot be used.
        """
        segment = check_target(target, writer)
        if not any(click.positive for click in clicks):
            self.drop(target)
            return write_nothing(target, writer, clicks)
        reference = writer.reference_image()
        key, volume = self._volume(target, reference)
        checked = check_clicks(clicks, volume.geometry)
        grid = output_grid(reference, volume.geometry)
        request = Request(target, volume, key, checked, reach, grid.geometry)
        self._worker.request(request)
        set_pending_clicks(segment, clicks)
        self._jobs.pop(target, None)  # what is asked last comes last
        self._jobs[target] = _Job(target, writer, request, grid, keep_radius_mm)
        return None

    def poll(self) -> list[Growing | Written | Failed]:
        """What has become of the requests since the last call; masks that are done are written here."""
        for job in list(self._jobs.values()):
            if not _is_wanted(job):
                self.drop(job.target)
        events = []
        for outcome in self._worker.poll():
            job = self._jobs.get(outcome.request.target)  # type: ignore[call-overload] # our targets are Targets
            if job is not None and job.request is outcome.request:
                events.append(self._taken(job, outcome))
        return [event for event in events if event is not None]

    def busy(self, target: Target | None = None) -> bool:
        """Whether an answer is on its way, to this target or to any."""
        return bool(self._jobs) if target is None else target in self._jobs

    def targets(self) -> list[Target]:
        """The segments to which an answer is on its way; what was asked last comes last."""
        return list(self._jobs)

    def cancel(self, target: Target | None = None) -> None:
        """Take back what was asked, for this target or for all: clicks and masks are as before."""
        for one in list(self._jobs) if target is None else [target]:
            self.drop(one)
            segment = one.segment()
            if segment is not None:
                drop_pending_clicks(segment)

    def drop(self, target: Target) -> None:
        """Stop what was asked for a target and leave its clicks pending."""
        self._jobs.pop(target, None)
        self._worker.cancel(target)

    def close(self) -> None:
        """Stop all that was asked and leave its clicks pending; the worker is its owner's to close."""
        for target in list(self._jobs):
            self.drop(target)

    def _volume(self, target: Target, reference: slicer.vtkOrientedImageData) -> tuple[Hashable, Volume]:
        key = volume_key(target.volume_node, target.segmentation_node, reference)
        if self._opened is None or self._opened[0] != key:
            self._opened = key, volume_in_segmentation(target.volume_node, target.segmentation_node, reference)
        return self._opened

    def _taken(self, job: _Job, outcome: Answer | Failure) -> Growing | Written | Failed | None:
        try:
            if isinstance(outcome, Failure):
                raise outcome.error
            if not is_edited(job.target, job.writer):
                self.drop(job.target)
                return None
            return self._written_or_asked_again(job, outcome) if outcome.final else _preview(job, outcome)
        except CTSAM3DError as error:
            self.drop(job.target)
            return Failed(job.target, error)

    def _written_or_asked_again(self, job: _Job, answer: Answer) -> Written | None:
        self.drop(job.target)
        check_target(job.target, job.writer)
        reference = job.writer.reference_image()
        key, volume = self._volume(job.target, reference)
        if key != job.request.volume_key or output_grid(reference, volume.geometry) != job.grid:
            # The volume, its place or the grid changed while the network was looking at the old one.
            return self.predict(job.target, job.request.clicks, job.writer, job.request.reach, job.keep_radius_mm)
        return write_result(job.target, job.writer, answer.result, job.grid, job.keep_radius_mm)


def _is_wanted(job: _Job) -> bool:
    segment = job.target.segment()
    return segment is not None and waits_for(segment, job.request.clicks)


def _preview(job: _Job, answer: Answer) -> Growing:
    labelmap = cropped_labelmap(_crop(job, answer), job.writer.reference_image())
    return Growing(job.target, answer.result, labelmap)


def _crop(job: _Job, answer: Answer) -> Crop:
    return crops.placed(answer.mask, answer.box, job.grid.first)
