"""Clicks in views, through the real event handlers, into real segments."""

import numpy as np
import pytest

from CTSAM3DLib.errors import CTSAM3DError
from Testing.effect.places import EDGE, INSIDE, INSIDE_TOO, OTHER_BOX


def test_a_left_click_segments_the_structure(workplace):
    assert workplace.click(INSIDE)
    workplace.settle()
    mask = workplace.mask()
    assert mask[20:40, 20:40, 15:35].all()
    assert not mask[:15].any()
    (click,) = workplace.clicks()
    assert click.positive
    ((world, positive),) = workplace.points()
    assert positive
    assert np.allclose(world, INSIDE, atol=1.0)
    assert "added" in workplace.status()


def test_a_left_click_with_ctrl_takes_away(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    before = workplace.mask()
    workplace.click(EDGE, control=True)
    workplace.settle()
    after = workplace.mask()
    assert after.sum() < before.sum()
    assert not (after & ~before).any()
    assert [positive for _, positive in workplace.points()] == [True, False]


def test_the_sign_of_a_plain_click_can_be_turned(workplace):
    workplace.effect.panel.outsideButton.click()
    workplace.click(EDGE)
    workplace.click(INSIDE, control=True)
    workplace.settle()
    assert [click.positive for click in workplace.clicks()] == [False, True]


@pytest.mark.parametrize(("shift", "button"), [(True, "Left"), (False, "Right"), (False, "Middle")])
def test_other_buttons_and_shift_are_left_to_the_view(workplace, shift, button):
    assert not workplace.host.click(workplace.red, INSIDE, shift=shift, button=button)
    assert workplace.clicks() == []


def test_moving_and_turning_the_wheel_are_left_to_the_view(workplace):
    assert not workplace.host.move(workplace.red, INSIDE)
    assert not workplace.host._send(workplace.red, "MouseWheelForwardEvent")


def test_a_press_on_a_point_is_the_start_of_a_drag(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    display = workplace.effect.points.node.GetDisplayNode()
    display.SetActiveControlPoint(0)
    assert not workplace.click(INSIDE_TOO)
    assert len(workplace.clicks()) == 1


def test_only_negative_clicks_empty_nothing(workplace):
    from Testing.support.mrml_nodes import bright_boxes

    painted = (bright_boxes() > 0).astype(np.uint8)
    import slicer

    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted, workplace.segmentation, workplace.segmentID, workplace.volume
    )
    workplace.click(EDGE, control=True)
    workplace.settle()
    assert (workplace.mask() == painted).all()
    assert "inside" in workplace.status()
    workplace.click(INSIDE)
    workplace.settle()
    assert [click.positive for click in workplace.clicks()] == [False, True]


def test_a_click_outside_the_volume_is_refused_with_a_sentence(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    before = workplace.mask()
    workplace.effect._do(lambda: workplace.effect.segmentClicks.add((500.0, 0.0, 0.0), True))
    assert "outside the volume" in workplace.status()
    assert len(workplace.clicks()) == 1
    assert (workplace.mask() == before).all()


def test_clicks_belong_to_their_segment(workplace):
    other = workplace.segmentation.GetSegmentation().AddEmptySegment("other", "other")
    workplace.click(INSIDE)
    workplace.settle()
    first = workplace.points()
    workplace.editor.setCurrentSegmentID(other)
    workplace.host.process_events(0.05)
    assert workplace.points() == []
    workplace.click(OTHER_BOX)
    workplace.click(EDGE, control=True)
    workplace.settle()
    assert len(workplace.points()) == 2
    workplace.editor.setCurrentSegmentID(workplace.segmentID)
    workplace.host.process_events(0.05)
    assert workplace.points() == first


def test_undo_and_redo_of_the_segment_editor_bring_clicks_and_mask(workplace):
    states = [(workplace.mask(), [])]
    for place, control in ((INSIDE, False), (EDGE, True)):
        workplace.click(place, control=control)
        workplace.settle()
        states.append((workplace.mask(), workplace.points()))
    for move, state in ((workplace.editor.undo, 1), (workplace.editor.undo, 0), (workplace.editor.redo, 1)):
        move()
        workplace.host.process_events(0.05)
        mask, points = states[state]
        assert (workplace.mask() == mask).all()
        assert workplace.points() == points
    workplace.editor.redo()
    workplace.host.process_events(0.05)
    assert (workplace.mask() == states[2][0]).all()


def test_undo_click_goes_back_any_depth_and_redo_comes_again(workplace):
    panel = workplace.effect.panel
    masks = [workplace.mask()]
    for place, control in ((INSIDE, False), (EDGE, True), (INSIDE_TOO, False)):
        workplace.click(place, control=control)
        workplace.settle()
        masks.append(workplace.mask())
    assert not panel.redoButton.enabled
    for count in (2, 1, 0):
        panel.undoButton.click()
        workplace.settle()
        assert len(workplace.clicks()) == count
        assert (workplace.mask() == masks[count]).all()
    assert not panel.undoButton.enabled
    for count in (1, 2, 3):
        panel.redoButton.click()
        workplace.settle()
        assert (workplace.mask() == masks[count]).all()
    assert not panel.redoButton.enabled


def test_clear_takes_clicks_and_mask_and_undo_brings_them_back(workplace):
    workplace.click(INSIDE)
    workplace.click(EDGE, control=True)
    workplace.settle()
    mask = workplace.mask()
    workplace.effect.panel.clearButton.click()
    workplace.settle()
    assert workplace.clicks() == []
    assert not workplace.mask().any()
    workplace.effect.panel.undoButton.click()
    workplace.settle()
    assert len(workplace.clicks()) == 2
    assert (workplace.mask() == mask).all()


def test_undo_takes_a_deletion_back(workplace):
    for place, control in ((INSIDE, False), (EDGE, True), (INSIDE_TOO, False)):
        workplace.click(place, control=control)
    workplace.settle()
    clicks, mask = workplace.clicks(), workplace.mask()
    workplace.effect.onPointsEdited(clicks[:1] + clicks[2:])
    workplace.settle()
    assert workplace.clicks() == clicks[:1] + clicks[2:]
    workplace.effect.panel.undoButton.click()
    workplace.settle()
    assert workplace.clicks() == clicks
    assert (workplace.mask() == mask).all()


def test_undo_after_the_segment_editors_own_takes_the_last_click_away(workplace):
    for place in (INSIDE, INSIDE_TOO):
        workplace.click(place)
        workplace.settle()
    clicks = workplace.clicks()
    workplace.editor.undo()
    workplace.host.process_events(0.05)
    assert workplace.clicks() == clicks[:1]
    workplace.effect.panel.undoButton.click()
    workplace.settle()
    assert workplace.clicks() == []
    workplace.effect.panel.redoButton.click()
    workplace.settle()
    assert workplace.clicks() == clicks[:1]


def test_a_dragged_point_gives_the_mask_of_the_moved_click(workplace):
    workplace.click(INSIDE)
    workplace.click(EDGE, control=True)
    workplace.settle()
    unmoved = workplace.clicks()[0]
    before = workplace.mask()
    node = workplace.effect.points.node
    node.SetNthControlPointPositionWorld(1, 49.5, 57.0, 57.0)
    assert not workplace.effect.driver.busy()  # nothing is asked while the mouse is still down
    node.InvokeEvent(node.PointEndInteractionEvent)
    workplace.host.process_events(0.05)
    workplace.settle()
    first, second = workplace.clicks()
    assert first == unmoved
    assert second.position == (-49.5, -57.0, 57.0)
    assert not second.positive
    assert (workplace.mask() != before).any()


def test_a_deleted_point_gives_the_mask_of_the_others(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    one = workplace.mask()
    workplace.click(EDGE, control=True)
    workplace.settle()
    workplace.effect.points.node.RemoveNthControlPoint(1)
    workplace.host.process_events(0.05)
    workplace.settle()
    assert len(workplace.clicks()) == 1
    assert (workplace.mask() == one).all()


def test_keep_the_rest_changes_only_near_the_click(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    before = workplace.mask()
    panel = workplace.effect.panel
    panel.keepBox.setChecked(True)
    panel.radiusBox.value = 8
    workplace.click(OTHER_BOX, control=True)
    workplace.settle()
    changed = np.argwhere(workplace.mask() != before) * 1.5  # z, y, x in mm
    assert len(changed)
    distances = np.linalg.norm(changed - np.array(OTHER_BOX)[::-1], axis=1)
    assert distances.max() <= 8 + 1.5


def test_one_patch_is_one_patch(workplace):
    workplace.effect.scriptedEffect.setParameter("Reach", "patch")
    workplace.click(INSIDE)
    workplace.settle()
    assert " 1 patch, " in workplace.status()


def test_the_status_of_a_mask_ends_with_the_mask(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    workplace.click(EDGE, control=True)
    workplace.settle()
    assert "added" in workplace.status()
    workplace.editor.undo()
    workplace.host.process_events(0.05)
    assert workplace.status() == ""
    workplace.editor.redo()
    workplace.host.process_events(0.05)
    assert workplace.status() == ""


def test_a_new_segment_per_click_and_one_undo_takes_it_away(workplace):
    segmentation = workplace.segmentation.GetSegmentation()
    workplace.effect.panel.newSegmentBox.setChecked(True)
    workplace.click(INSIDE)
    workplace.settle()
    assert segmentation.GetNumberOfSegments() == 1  # the selected one had no click yet
    workplace.click(OTHER_BOX)
    workplace.settle()
    assert segmentation.GetNumberOfSegments() == 2
    latest = workplace.editor.currentSegmentID()
    assert latest != workplace.segmentID
    workplace.click(EDGE, control=True)
    workplace.settle()
    assert workplace.editor.currentSegmentID() == latest
    assert len(workplace.clicks(latest)) == 2
    assert len(workplace.clicks()) == 1
    workplace.editor.undo()
    workplace.editor.undo()
    workplace.host.process_events(0.05)
    assert segmentation.GetNumberOfSegments() == 1
    assert len(workplace.clicks()) == 1


def test_a_refused_click_leaves_no_new_segment_behind(workplace):
    segmentation = workplace.segmentation.GetSegmentation()
    workplace.click(INSIDE)
    workplace.settle()
    workplace.effect.panel.newSegmentBox.setChecked(True)
    workplace.effect._do(lambda: workplace.effect.segmentClicks.add((500.0, 0.0, 0.0), True, inNewSegment=True))
    workplace.settle()
    assert "outside the volume" in workplace.status()
    assert segmentation.GetNumberOfSegments() == 1
    assert workplace.editor.currentSegmentID() == workplace.segmentID
    assert workplace.effect.scriptedEffect.active()


def test_a_new_segment_whose_backend_is_not_wanted_yet_keeps_its_click_and_says_why(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    workplace.effect.panel.newSegmentBox.setChecked(True)
    workplace.backends.refusal = CTSAM3DError("Nothing was sent; agree first.")
    workplace.click(OTHER_BOX)
    workplace.settle()
    assert workplace.status() == "Nothing was sent; agree first."
    assert len(workplace.clicks(workplace.editor.currentSegmentID())) == 1
    assert workplace.editor.currentSegmentID() != workplace.segmentID


def test_points_move_with_the_segmentation(workplace):
    from Testing.support.mrml_nodes import add_linear_transform

    workplace.click(INSIDE)
    workplace.settle()
    ((before, _),) = workplace.points()
    shift = np.eye(4)
    shift[:3, 3] = (10, 20, 30)
    transform = add_linear_transform(workplace.host.scene, shift)
    workplace.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    workplace.host.process_events(0.05)
    ((after, _),) = workplace.points()
    assert np.allclose(np.subtract(after, before), (10, 20, 30), atol=1e-3)


def test_keys_do_what_the_buttons_do(workplace):
    keys = {shortcut.key.toString(): shortcut for shortcut in workplace.effect.shortcuts._shortcuts}
    assert set(keys) == {"U", "Shift+U", "N", "K", "C"}
    workplace.click(INSIDE)
    workplace.settle()
    keys["U"].activated.emit()
    workplace.settle()
    assert workplace.clicks() == []
    keys["Shift+U"].activated.emit()
    workplace.settle()
    assert len(workplace.clicks()) == 1
    keys["N"].activated.emit()
    assert not workplace.effect.panel.nextClickIsPositive
    keys["K"].activated.emit()
    assert workplace.effect.scriptedEffect.integerParameter("KeepTheRest") == 1
    assert all(shortcut.enabled for shortcut in keys.values())
    workplace.editor.setActiveEffectByName("")
    assert not any(shortcut.enabled for shortcut in keys.values())


def test_the_status_lies_below_the_clicks_and_above_the_other_options(workplace):
    """In a low window with Slicer's Data Probe open, the end of the panel is out of sight."""
    import qt  # the host's, which is there once the fixture has started it

    panel = workplace.effect.panel
    frame = workplace.effect.scriptedEffect.optionsFrame()

    def height(widget):
        return widget.mapTo(frame, qt.QPoint(0, 0)).y()

    assert height(panel.countLabel) < height(panel.statusLabel) < height(panel.reachBox)


def test_the_sign_of_a_click_is_a_radio_button(workplace):
    import qt

    panel = workplace.effect.panel
    assert isinstance(panel.insideButton, qt.QRadioButton)
    assert isinstance(panel.outsideButton, qt.QRadioButton)
    assert (panel.insideButton.checked, panel.outsideButton.checked) == (True, False)
