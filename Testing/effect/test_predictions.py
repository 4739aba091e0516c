"""Predictions on their way: nothing waits, quick clicks add up, a failure or a cancel loses nothing."""

import time

import pytest

from CTSAM3DLib.errors import CTSAM3DError
from Testing.effect.places import EDGE, INSIDE, INSIDE_TOO, OTHER_BOX


@pytest.fixture
def held(workplace):
    """The workplace with a backend that answers only when the test opens its gate."""
    workplace.backends.choice.gate.clear()
    yield workplace
    workplace.backends.choice.gate.set()


def start(held, place=INSIDE):
    """A click whose prediction has begun and is held back."""
    held.click(place)
    assert held.host.process_events(20, until=held.backends.choice.started.is_set)
    assert held.effect.driver.busy()


def finish(held):
    held.backends.choice.gate.set()
    held.settle()


def test_a_click_does_not_wait_for_its_mask(held):
    held.click(INSIDE)  # loads the backend, on its own thread
    start(held, INSIDE_TOO)
    began = time.monotonic()
    held.click(EDGE, control=True)
    assert time.monotonic() - began < 0.5
    panel = held.effect.panel
    assert panel.busyWidget.isVisibleTo(panel.scriptedEffect.optionsFrame())
    assert len(held.points()) == 3  # the points are there at once
    assert not held.mask().any()
    finish(held)
    assert held.mask().any()
    assert not panel.busyWidget.isVisibleTo(panel.scriptedEffect.optionsFrame())


def test_quick_clicks_cost_one_prediction_and_one_undo_state(held):
    start(held)
    for place in (INSIDE_TOO, (40.5, 45.0, 36.0), (42.0, 48.0, 39.0)):
        held.click(place)
    finish(held)
    assert [len(clicks) for clicks in held.backends.choice.asked] == [1, 4]
    assert len(held.clicks()) == 4
    held.editor.undo()
    held.host.process_events(0.05)
    assert held.clicks() == []
    assert not held.mask().any()


def test_another_segment_waits_its_turn(held):
    other = held.segmentation.GetSegmentation().AddEmptySegment("other", "other")
    start(held)
    held.editor.setCurrentSegmentID(other)
    held.host.process_events(0.05)
    held.click(OTHER_BOX)
    finish(held)
    assert len(held.clicks()) == 1
    assert len(held.clicks(other)) == 1
    assert held.mask(other).any()


def test_cancel_leaves_the_segment_as_it_was_and_redo_brings_the_click_back(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    before, points = workplace.mask(), workplace.points()
    workplace.backends.choice.gate.clear()
    workplace.backends.choice.started.clear()
    start(workplace, EDGE)
    panel = workplace.effect.panel
    panel.cancelButton.click()
    assert not workplace.effect.driver.busy()
    assert workplace.points() == points
    assert "Cancelled" in workplace.status()
    workplace.backends.choice.gate.set()
    workplace.host.process_events(0.3)
    assert (workplace.mask() == before).all()
    panel.redoButton.click()
    workplace.settle()
    assert len(workplace.clicks()) == 2


def test_undo_of_a_click_on_its_way_drops_it_and_computes_nothing(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    before, clicks = workplace.mask(), workplace.clicks()
    workplace.backends.choice.gate.clear()
    workplace.backends.choice.started.clear()
    start(workplace, EDGE)
    workplace.click(OTHER_BOX)
    workplace.effect.panel.undoButton.click()
    assert len(workplace.clicks()) == 2  # one step back: the second click is asked for alone
    assert workplace.effect.driver.busy()
    workplace.effect.panel.undoButton.click()
    assert not workplace.effect.driver.busy()
    assert workplace.clicks() == clicks
    assert "Cancelled" in workplace.status()
    workplace.backends.choice.gate.set()
    workplace.host.process_events(0.3)
    assert (workplace.mask() == before).all()
    workplace.effect.panel.redoButton.click()
    workplace.effect.panel.redoButton.click()
    workplace.settle()
    assert len(workplace.clicks()) == 3


def test_cancel_loses_no_clicks_of_another_segment_either(held):
    other = held.segmentation.GetSegmentation().AddEmptySegment("other", "other")
    start(held)
    held.editor.setCurrentSegmentID(other)
    held.host.process_events(0.05)
    held.click(OTHER_BOX)
    held.effect.panel.cancelButton.click()
    assert held.clicks() == held.clicks(other) == []
    held.backends.choice.gate.set()
    for segment_id in (other, held.segmentID):
        held.editor.setCurrentSegmentID(segment_id)
        held.host.process_events(0.05)
        held.effect.panel.redoButton.click()
        held.settle()
        assert len(held.clicks(segment_id)) == 1
        assert held.mask(segment_id).any()


def test_a_failure_keeps_the_clicks_and_trying_again_answers_them(workplace):
    workplace.backends.choice.failure = CTSAM3DError("The server does not answer; try again.")
    workplace.click(INSIDE)
    workplace.settle()
    workplace.click(INSIDE_TOO)
    workplace.settle()
    panel = workplace.effect.panel
    assert workplace.status() == "The server does not answer; try again."
    assert len(workplace.points()) == 2
    assert panel.tryAgainButton.isVisibleTo(panel.scriptedEffect.optionsFrame())
    workplace.backends.choice.failure = None
    panel.tryAgainButton.click()
    workplace.settle()
    assert workplace.mask().any()
    assert len(workplace.clicks()) == 2
    assert not panel.tryAgainButton.isVisibleTo(panel.scriptedEffect.optionsFrame())


def test_a_backend_that_is_not_wanted_keeps_the_click(workplace):
    workplace.backends.refusal = CTSAM3DError("Nothing was sent; agree first.")
    workplace.click(INSIDE)
    assert workplace.status() == "Nothing was sent; agree first."
    assert len(workplace.points()) == 1
    workplace.backends.refusal = None
    workplace.effect.panel.tryAgainButton.click()
    workplace.settle()
    assert workplace.mask().any()


def test_what_changed_is_shown_for_a_moment(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    assert workplace.overlay() == ["added"]
    workplace.click(EDGE, control=True)
    workplace.settle()
    assert workplace.overlay() == ["removed"]
    assert "0.0 mL added" in workplace.status()
    assert workplace.host.process_events(3, until=lambda: not workplace.overlay())


def test_what_changed_is_not_shown_where_it_is_not_wanted(workplace):
    workplace.effect.panel.showChangeBox.setChecked(False)
    workplace.click(INSIDE)
    workplace.settle()
    assert workplace.overlay() == []


def test_the_mask_is_seen_growing_and_not_written_before_it_is_done(workplace):
    workplace.backends.choice.seconds_a_step = 0.3
    seen = []
    show = workplace.effect.changeDisplay.showGrowing

    def showGrowing(*arguments):  # noqa: N802
        show(*arguments)
        seen.append((workplace.overlay(), int(workplace.mask().sum())))

    workplace.effect.changeDisplay.showGrowing = showGrowing
    workplace.click(INSIDE)
    workplace.settle()
    assert seen
    assert all(step == (["growing"], 0) for step in seen)
    assert workplace.mask().any()


# While a prediction is on its way. Each ends with the gate opened, so that the answer arrives where nobody waits.


def test_during_a_prediction_the_scene_is_closed(held):
    start(held)
    held.host.scene.Clear(0)
    held.host.process_events(0.05)
    held.backends.choice.gate.set()
    held.host.process_events(0.3)
    assert not held.effect.driver.busy()
    assert held.points() == []
    assert held.host.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_during_a_prediction_the_volume_is_deleted(held):
    start(held)
    held.host.scene.RemoveNode(held.volume)
    finish(held)
    import slicer

    labelmap = slicer.vtkOrientedImageData()
    held.segmentation.GetBinaryLabelmapRepresentation(held.segmentID, labelmap)
    assert labelmap.IsEmpty()
    assert len(held.clicks()) == 1  # the click waits in the segment for a volume
    assert not held.effect.panel.busyWidget.isVisibleTo(held.effect.scriptedEffect.optionsFrame())
    held.click(INSIDE_TOO)
    assert "ource volume" in held.status()


def test_during_a_prediction_the_segment_is_deleted(held):
    other = held.segmentation.GetSegmentation().AddEmptySegment("other", "other")
    start(held)
    held.segmentation.GetSegmentation().RemoveSegment(held.segmentID)
    finish(held)
    assert held.editor.currentSegmentID() != held.segmentID
    assert held.points() == []
    assert not held.mask(other).any()


def test_during_a_prediction_the_segmentation_is_deleted(held):
    start(held)
    held.host.scene.RemoveNode(held.segmentation)
    finish(held)
    assert held.points() == []
    assert not held.effect.driver.busy()


def test_during_a_prediction_the_points_are_deleted(held):
    start(held)
    held.host.scene.RemoveNode(held.effect.points.node)
    finish(held)
    assert held.mask().any()
    assert len(held.points()) == 1  # made anew from the segment's tag


def test_during_a_prediction_the_effect_is_switched(held):
    start(held)
    held.editor.setActiveEffectByName("")
    held.backends.choice.gate.set()
    held.host.process_events(0.3)
    assert not held.mask().any()
    assert held.points() == []
    assert len(held.clicks()) == 1
    held.editor.setActiveEffectByName("CTSAM3D")
    held.host.process_events(0.05)
    assert len(held.points()) == 1
    held.effect.panel.tryAgainButton.click()
    held.settle()
    assert held.mask().any()


def test_during_a_prediction_the_segment_editor_undoes(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    workplace.backends.choice.gate.clear()
    workplace.backends.choice.started.clear()
    start(workplace, EDGE)
    workplace.editor.undo()
    workplace.host.process_events(0.05)
    workplace.backends.choice.gate.set()
    workplace.settle()
    assert workplace.clicks() == []
    assert not workplace.mask().any()


def test_during_a_prediction_another_backend_is_chosen(held):
    from Testing.effect.backends import ThresholdChoice

    start(held)
    first = held.backends.choice
    held.backends.choice = ThresholdChoice()
    held.backends.choice.gate.set()
    held.click(INSIDE_TOO)
    held.settle()
    first.gate.set()
    assert len(held.clicks()) == 2
    assert held.mask().any()
