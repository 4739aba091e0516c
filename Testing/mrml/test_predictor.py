"""What can happen to a scene while a prediction is on its way. docs/slicer-safety.md lists these cases."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ClickError, CTSAM3DError
from CTSAM3DLib.interaction import prediction_worker as prediction
from CTSAM3DLib.interaction.prediction_worker import PredictionWorker
from CTSAM3DLib.mrml.clicks import clicks_of, mask_clicks, pending_clicks, read_points, set_pending_clicks, write_points
from CTSAM3DLib.mrml.files import read_segmentation_node, write_segmentation_node
from CTSAM3DLib.mrml.predictor import Failed, Growing, SegmentPredictor
from CTSAM3DLib.mrml.segmenting import Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from Testing.support.gated_backend import GatedBackend
from Testing.support.mrml_nodes import (
    SPACING,
    add_linear_transform,
    add_segmentation,
    add_volume,
    bright_boxes,
    mask_of,
    rotation,
    vtk_matrix,
)

PATIENCE_S = 20


def click_at(x: int, positive: bool = True) -> Click:
    """A click in voxel (x, 30, 30), LPS of the local frame; bright boxes lie at x from 15 and from 55."""
    return Click((-x * SPACING[0], -30 * SPACING[1], 30 * SPACING[2]), positive)


class Table:
    """A scene with a CT, two segments, and a backend whose answers the test lets through."""

    def __init__(self, scene) -> None:
        self.scene = scene
        self.volume = add_volume(scene, bright_boxes())
        self.segmentation, (self.a, self.b) = add_segmentation(scene, self.volume, "a", "b")
        self.writer = LogicSegmentWriter(scene, self.segmentation, self.volume)
        self.backend = GatedBackend()
        self.worker = PredictionWorker(lambda: self.backend)
        self.predictor = SegmentPredictor(self.worker)

    def target(self, segment_id=None) -> Target:
        return Target(self.segmentation, segment_id or self.a, self.volume)

    def ask(self, clicks, segment_id=None, **options):
        return self.predictor.predict(self.target(segment_id), clicks, self.writer, **options)

    def ask_and_hold(self, clicks, segment_id=None, **options) -> None:
        """Ask, and return when the backend is at work on it; it will not answer before `let_go`."""
        self.backend.gate.clear()
        asked = len(self.backend.asked)
        self.ask(clicks, segment_id, **options)
        deadline = time.monotonic() + PATIENCE_S
        while len(self.backend.asked) == asked:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def let_go(self) -> list:
        """Let the backend answer; all that comes of it."""
        self.backend.gate.set()
        return self.settle()

    def settle(self) -> list:
        """Poll until nothing is on its way."""
        events, deadline = [], time.monotonic() + PATIENCE_S
        while self.predictor.busy():
            assert time.monotonic() < deadline
            self.worker.wait(0.2)
            events += self.predictor.poll()
        return events

    def segment(self, segment_id=None):
        return self.segmentation.GetSegmentation().GetSegment(segment_id or self.a)

    def mask(self, segment_id=None) -> np.ndarray:
        return mask_of(self.segmentation, segment_id or self.a, self.volume).copy()

    def undo_states(self) -> int:
        """How many undos lead back to the empty segmentation; all of them are done."""
        count = 0
        while self.writer.can_undo():
            self.writer.undo()
            count += 1
        return count

    def close(self) -> None:
        self.backend.gate.set()
        self.predictor.close()
        self.worker.close()
        self.writer.close()


@pytest.fixture
def table(scene):
    made = Table(scene)
    yield made
    made.close()


def written(events) -> list[Written]:
    return [event for event in events if isinstance(event, Written)]


def test_a_click_becomes_a_mask_with_one_undo_state_and_its_tags(table):
    assert table.ask([click_at(25)]) is None
    (event,) = written(table.settle())
    assert table.mask().any()
    assert event.change.added_ml == pytest.approx(table.mask().sum() * 1.5**3 / 1000)
    assert mask_clicks(table.segment()) == [click_at(25)]
    assert pending_clicks(table.segment()) is None
    assert table.segment().HasTag("CTSAM3D.ModelHash")
    assert table.undo_states() == 1
    assert not table.mask().any()


def test_growing_masks_are_previews_and_touch_nothing(table, monkeypatch):
    monkeypatch.setattr(prediction, "FIRST_PREVIEW_S", 0)
    table.ask_and_hold([click_at(25)])
    table.worker.wait(PATIENCE_S)
    (preview,) = table.predictor.poll()
    assert isinstance(preview, Growing)
    assert preview.labelmap.GetScalarRange() == (0, 1)
    assert not table.mask().any()
    assert not table.writer.can_undo()


def test_newer_clicks_take_the_place_of_older_ones(table):
    table.ask_and_hold([click_at(20)])
    for count in (2, 3, 4):
        table.ask([click_at(20 + n) for n in range(count)])
    events = table.let_go()
    assert len(written(events)) == 1
    assert mask_clicks(table.segment()) == [click_at(20 + n) for n in range(4)]
    assert table.undo_states() == 1


def test_switching_segments_loses_no_clicks(table):
    table.ask_and_hold([click_at(25)], table.a)
    table.ask([click_at(60)], table.b)
    assert clicks_of(table.segment(table.a)) == [click_at(25)]
    assert clicks_of(table.segment(table.b)) == [click_at(60)]
    assert {event.target.segment_id for event in written(table.let_go())} == {table.a, table.b}


def test_a_closed_scene_ends_the_prediction(table):
    table.ask_and_hold([click_at(25)])
    table.scene.Clear(0)
    assert table.predictor.poll() == []
    assert table.let_go() == []


def test_a_deleted_volume_ends_the_prediction_and_the_clicks_stay(table):
    table.ask_and_hold([click_at(25)])
    table.scene.RemoveNode(table.volume)
    assert table.let_go() == []
    assert clicks_of(table.segment()) == [click_at(25)]
    with pytest.raises(CTSAM3DError, match="no longer there"):
        table.ask([click_at(25)])


def test_a_deleted_segmentation_ends_the_prediction(table):
    table.ask_and_hold([click_at(25)])
    table.scene.RemoveNode(table.segmentation)
    assert table.let_go() == []


def test_a_deleted_segment_ends_the_prediction_and_comes_back_with_its_clicks(table):
    table.ask_and_hold([click_at(25)])
    table.writer.save_state_for_undo()  # as the Segment Editor does before it removes a segment
    table.segmentation.GetSegmentation().RemoveSegment(table.a)
    assert table.let_go() == []
    table.writer.undo()
    assert clicks_of(table.segment()) == [click_at(25)]


def test_deleted_points_do_not_take_the_clicks_with_them(table):
    points = table.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    write_points([click_at(25)], points, table.segmentation)
    table.ask_and_hold(read_points(points, table.segmentation))
    table.scene.RemoveNode(points)
    assert len(written(table.let_go())) == 1
    assert mask_clicks(table.segment()) == [click_at(25)]


def test_an_undo_in_the_meantime_wins(table):
    table.ask([click_at(60)])
    table.settle()
    table.ask_and_hold([click_at(60), click_at(25)])
    table.writer.undo()
    assert table.let_go() == []
    assert not table.mask().any()
    assert clicks_of(table.segment()) == []


def test_clicks_that_something_else_asked_for_in_the_meantime_win(table):
    table.ask_and_hold([click_at(25)])
    set_pending_clicks(table.segment(), [click_at(60)])  # another editor on the same segment
    assert table.let_go() == []
    assert clicks_of(table.segment()) == [click_at(60)]
    assert not table.mask().any()


def test_a_cancel_brings_back_mask_and_clicks(table):
    table.ask([click_at(60)])
    table.settle()
    before = table.mask()
    table.ask_and_hold([click_at(60), click_at(25)])
    table.predictor.cancel()
    assert not table.predictor.busy()
    assert clicks_of(table.segment()) == [click_at(60)]
    assert table.let_go() == []
    assert np.array_equal(table.mask(), before)
    assert table.undo_states() == 1


def test_a_failure_loses_neither_mask_nor_clicks_and_can_be_tried_again(table):
    table.ask([click_at(60)])
    table.settle()
    before = table.mask()
    table.backend.error = CTSAM3DError("The server is asleep; wake it.")
    table.ask([click_at(60), click_at(25)])
    failure = table.settle()[-1]
    assert isinstance(failure, Failed)
    assert str(failure.error) == "The server is asleep; wake it."
    assert np.array_equal(table.mask(), before)
    assert mask_clicks(table.segment()) == [click_at(60)]
    table.backend.error = None
    table.ask(clicks_of(table.segment()))
    assert len(written(table.settle())) == 1
    assert mask_clicks(table.segment()) == [click_at(60), click_at(25)]


def test_clicks_that_wait_are_saved_with_the_segmentation(table, tmp_path):
    table.ask_and_hold([click_at(25), click_at(60, positive=False)])
    write_segmentation_node(table.segmentation, tmp_path / "saved.seg.nrrd")
    loaded = read_segmentation_node(table.scene, tmp_path / "saved.seg.nrrd")
    segment = loaded.GetSegmentation().GetSegment(table.a)
    assert clicks_of(segment) == [click_at(25), click_at(60, positive=False)]
    assert mask_clicks(segment) == []


def test_another_segmentation_in_the_editor_keeps_the_clicks_waiting(table):
    table.ask_and_hold([click_at(25)])
    other, _ = add_segmentation(table.scene, table.volume, "other")
    table.writer.editor_node.SetAndObserveSegmentationNode(other)
    assert table.let_go() == []
    assert clicks_of(table.segment()) == [click_at(25)]
    assert not table.mask().any()
    with pytest.raises(CTSAM3DError, match="another segmentation"):
        table.ask([click_at(25)])


def test_an_effect_that_is_left_keeps_the_clicks_waiting(table):
    table.ask_and_hold([click_at(25)])
    table.predictor.close()
    assert table.let_go() == []
    assert clicks_of(table.segment()) == [click_at(25)]
    table.predictor = SegmentPredictor(table.worker)
    table.ask(clicks_of(table.segment()))
    assert len(written(table.settle())) == 1


@pytest.mark.parametrize("change", ["voxels", "place", "reference"])
def test_what_changes_under_a_prediction_is_predicted_anew(table, change):
    table.ask_and_hold([click_at(25)])
    if change == "voxels":
        slicer.util.updateVolumeFromArray(table.volume, np.where(bright_boxes() > 0, 900, bright_boxes()))
    elif change == "place":
        nudged = vtk_matrix(np.array([[1, 0, 0, 3.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
        table.volume.ApplyTransformMatrix(nudged)
    else:
        finer = add_volume(table.scene, np.zeros((140, 160, 180), np.int16), np.diag([0.75, 0.75, 0.75, 1.0]))
        table.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(finer)
    asked = len(table.backend.asked)
    events = table.let_go()
    assert len(table.backend.asked) == asked + 1
    assert len(written(events)) == 1
    bright = slicer.util.arrayFromVolume(table.volume) > 200
    bright[..., 64:] = False
    mask = table.mask() > 0
    assert np.count_nonzero(mask[..., :60] != bright[..., :60]) < 0.15 * np.count_nonzero(bright)
    assert table.undo_states() == 1


def test_without_a_positive_click_the_mask_is_empty_at_once(table):
    table.ask([click_at(25)])
    table.settle()
    table.ask_and_hold([click_at(25), click_at(30)])
    event = table.ask([click_at(60, positive=False)])
    assert isinstance(event, Written)
    assert not table.mask().any()
    assert clicks_of(table.segment()) == [click_at(60, positive=False)]
    assert table.let_go() == []
    table.ask([])
    assert clicks_of(table.segment()) == []
    table.writer.undo()
    table.writer.undo()
    assert table.mask().any()


def test_refused_clicks_change_nothing_and_leave_a_running_prediction_alone(table):
    table.ask_and_hold([click_at(25)])
    with pytest.raises(ClickError, match="outside"):
        table.ask([click_at(25), click_at(500)])
    assert clicks_of(table.segment()) == [click_at(25)]
    assert len(written(table.let_go())) == 1


def make_surfaces(segmentation_node):
    """Let the segments be surfaces in the first place."""
    assert segmentation_node.CreateClosedSurfaceRepresentation()
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    segmentation_node.GetSegmentation().SetSourceRepresentationName(surface)


def test_segments_that_are_surfaces_are_refused_before_anything_is_asked(table):
    table.ask([click_at(20)])
    table.settle()
    make_surfaces(table.segmentation)
    with pytest.raises(CTSAM3DError, match="kept as Closed surface; make Binary labelmap their source"):
        table.ask([click_at(20), click_at(60)])
    assert clicks_of(table.segment()) == [click_at(20)]


def test_segments_that_become_surfaces_in_the_meantime_keep_the_clicks_waiting(table):
    table.ask([click_at(20)])
    table.settle()
    table.ask_and_hold([click_at(20), click_at(60)])
    make_surfaces(table.segmentation)
    (event,) = table.let_go()
    assert "kept as Closed surface" in str(event.error)
    assert mask_clicks(table.segment()) == [click_at(20)]
    assert clicks_of(table.segment()) == [click_at(20), click_at(60)]


def test_keep_the_rest_leaves_what_is_far_from_the_changed_clicks(table):
    table.ask([click_at(25)], reach="patch")
    table.settle()
    before = table.mask()
    table.ask([click_at(25), click_at(60)], reach="patch", keep_radius_mm=15.0)
    table.settle()
    after = table.mask()
    z, y, x = np.indices(before.shape)
    near = ((x - 60) ** 2 + (y - 30) ** 2 + (z - 30) ** 2) * 1.5**2 <= 15.0**2
    assert np.array_equal(after[~near], before[~near])
    assert (after[near] != before[near]).any()
    table.ask([click_at(25)], reach="patch", keep_radius_mm=15.0)  # the click is taken back
    table.settle()
    assert np.array_equal(table.mask(), before)


def test_under_transforms_the_mask_is_the_same_to_the_bit(table):
    table.ask([click_at(25)])
    table.settle()
    straight = table.mask()
    turned = add_linear_transform(table.scene, rotation())
    for node in (table.volume, table.segmentation):
        node.SetAndObserveTransformNodeID(turned.GetID())
    points = table.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    write_points(clicks_of(table.segment()), points, table.segmentation)
    clicks = read_points(points, table.segmentation)
    assert clicks == [click_at(25)]
    table.ask(clicks)
    table.settle()
    assert np.array_equal(table.mask(), straight)


def test_the_table_of_cases_names_tests_that_exist():
    root = Path(__file__).parents[2]
    table = (root / "docs" / "slicer-safety.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", table))
    there = "".join(path.read_text() for path in (root / "Testing").rglob("test_*.py"))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in there} == set()
