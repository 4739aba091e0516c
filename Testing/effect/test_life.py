"""The effect's life: scenes saved, loaded and closed, several editors, options, and what it leaves behind."""

import threading

import pytest

from CTSAM3DLib.errors import CTSAM3DError
from Testing.effect.places import EDGE, INSIDE, INSIDE_TOO


def reload_scene(workplace, folder):
    """Save the scene as a bundle, close it, and load it again; gives the segmentation that is there then."""
    scene = workplace.host.scene
    assert scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None)
    scene.Clear(0)
    workplace.host.process_events(0.05)
    scene.SetURL(str(next(folder.glob("*.mrml"))))
    assert scene.Import()
    workplace.host.process_events(0.1)
    workplace.segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    workplace.volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")


def test_clicks_and_mask_come_back_with_the_scene_and_go_on(workplace, tmp_path):
    workplace.click(INSIDE)
    workplace.click(EDGE, control=True)
    workplace.settle()
    mask, points = workplace.mask(), workplace.points()
    reload_scene(workplace, tmp_path)
    assert workplace.host.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1  # no overlay was saved
    assert (workplace.mask() == mask).all()
    workplace.editor.setSegmentationNode(workplace.segmentation)
    workplace.editor.setSourceVolumeNode(workplace.volume)
    workplace.editor.setCurrentSegmentID(workplace.segmentID)
    workplace.editor.setActiveEffectByName("CTSAM3D")
    workplace.host.process_events(0.1)
    assert workplace.points() == points
    workplace.effect.panel.undoButton.click()
    workplace.settle()
    assert len(workplace.clicks()) == 1
    workplace.effect.panel.redoButton.click()
    workplace.settle()
    assert (workplace.mask() == mask).all()


def test_clicks_without_a_mask_come_back_with_the_scene(workplace, tmp_path):
    workplace.backends.choice.failure = CTSAM3DError("The server does not answer.")
    workplace.click(INSIDE)
    workplace.settle()
    reload_scene(workplace, tmp_path)
    assert len(workplace.clicks()) == 1
    workplace.backends.choice.failure = None
    workplace.editor.setSegmentationNode(workplace.segmentation)
    workplace.editor.setSourceVolumeNode(workplace.volume)
    workplace.editor.setCurrentSegmentID(workplace.segmentID)
    workplace.editor.setActiveEffectByName("CTSAM3D")
    workplace.host.process_events(0.1)
    assert "no mask yet" in workplace.status()
    workplace.effect.panel.tryAgainButton.click()
    workplace.settle()
    assert workplace.mask().any()


def test_options_are_kept_in_the_parameter_node_and_shown_from_it(workplace):
    panel, effect = workplace.effect.panel, workplace.effect.scriptedEffect
    node = workplace.editor.mrmlSegmentEditorNode()
    assert effect.parameter("Reach") == "structure"
    panel.reachBox.setCurrentIndex(panel.reachBox.findData("patch"))
    panel.keepBox.setChecked(True)
    panel.radiusBox.value = 45
    assert node.GetAttribute("CTSAM3D.Reach") == "patch"
    assert node.GetAttribute("CTSAM3D.KeepTheRest") == "1"
    assert float(node.GetAttribute("CTSAM3D.KeepRadiusMm")) == 45
    effect.setParameter("Reach", "neighbours")
    effect.setParameter("KeepTheRest", 0)
    workplace.host.process_events(0.05)
    assert panel.reachBox.currentData == "neighbours"
    assert not panel.keepBox.checked
    assert not panel.radiusBox.enabled


def test_the_reach_reaches_the_backend(workplace):
    panel = workplace.effect.panel
    panel.reachBox.setCurrentIndex(panel.reachBox.findData("patch"))
    workplace.click(INSIDE)
    workplace.settle()
    import vtk

    from CTSAM3DLib.output import provenance

    reach = vtk.reference("")
    assert workplace.segment.GetTag("CTSAM3D.Reach", reach)
    assert str(reach) == "patch"
    assert provenance.CLICKS_TAG == "CTSAM3D.Clicks"


def test_two_editors_at_once_see_the_same_segment(workplace):
    second = workplace.host.segment_editor()
    second.setActiveEffectByName("CTSAM3D")
    workplace.host.process_events(0.05)
    other = second.effectByName("CTSAM3D").self()
    assert other is not workplace.effect
    other.backends = workplace.backends
    workplace.effect._do(lambda: workplace.effect.segmentClicks.add(INSIDE, True))
    workplace.settle()
    workplace.host.process_events(0.1)
    assert other.points.node is not workplace.effect.points.node
    assert other.points.node.GetNumberOfControlPoints() == 1
    other._do(lambda: other.segmentClicks.add(INSIDE_TOO, True))
    assert workplace.host.process_events(20, until=lambda: not other.driver.busy())
    workplace.host.process_events(0.1)
    assert len(workplace.points()) == 2


def test_deactivation_leaves_nothing_behind_and_may_come_twice(workplace):
    scene = workplace.host.scene
    before = {scene.GetNthNode(i).GetClassName() for i in range(scene.GetNumberOfNodes())}
    workplace.click(INSIDE)
    workplace.settle()
    workplace.editor.setActiveEffectByName("")
    workplace.effect.deactivate()
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert {scene.GetNthNode(i).GetClassName() for i in range(scene.GetNumberOfNodes())} <= before
    assert not workplace.effect.Observations
    assert not workplace.click(INSIDE_TOO)


def test_an_editor_that_goes_leaves_no_timer_connected(workplace):
    effect = workplace.effect
    workplace.click(INSIDE)
    workplace.settle()
    connected = {
        effect.syncTimer: effect._sync,
        effect.driver._timer: effect.driver._poll,
        effect.points._timer: effect.points._tellEdited,
        effect.changeDisplay._timer: effect.changeDisplay.clear,
    }
    effect.cleanup()
    assert not any(timer.disconnect("timeout()", slot) for timer, slot in connected.items())
    assert not any(timer.active for timer in connected)
    assert not effect.Observations
    effect.cleanup()  # twice does no harm
    assert not workplace.click(INSIDE_TOO)
    workplace.host.process_events(0.05)
    assert workplace.points() == []


def test_points_that_a_user_deletes_come_back(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    points = workplace.points()
    workplace.host.scene.RemoveNode(workplace.effect.points.node)
    workplace.host.process_events(0.1)
    assert workplace.points() == points


def test_a_hidden_segment_is_not_changed_unless_the_user_agrees(workplace):
    workplace.segmentation.GetDisplayNode().SetSegmentVisibility(workplace.segmentID, False)
    workplace.effect.scriptedEffect.confirmCurrentSegmentVisible = lambda: 0
    workplace.click(INSIDE)
    assert workplace.clicks() == []


def test_a_server_offers_its_own_models(workplace):
    from CTSAM3DWidgets.Backends import applicationBackends
    from CTSAM3DWidgets.Settings import Server

    backends = applicationBackends()
    backends.settings.saveServer(Server("https://gpu:8900", models=("ctsam3d",), consented=True))
    workplace.effect.backends = backends
    workplace.editor.setActiveEffectByName("")
    workplace.editor.setActiveEffectByName("CTSAM3D")
    panel = workplace.effect.panel
    panel.backendBox.setCurrentIndex(panel.backendBox.findData("https://gpu:8900"))
    assert panel.modelBox.currentData == "ctsam3d"
    choice = workplace.effect.chosenBackend()
    assert (choice.address, choice.model) == ("https://gpu:8900", "ctsam3d")
    assert backends.settings.backend == "https://gpu:8900"
    backends.settings.removeServer("https://gpu:8900")
    assert backends.settings.backend == "This computer"


@pytest.mark.parametrize("mode", ["Place", "AdjustWindowLevel"])
def test_while_the_mouse_has_another_use_the_effect_stays_and_takes_no_clicks(workplace, mode):
    interaction = workplace.host.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(getattr(interaction, mode))
    workplace.host.process_events(0.05)
    assert workplace.effect.scriptedEffect.active()
    assert not workplace.click(INSIDE)
    assert workplace.clicks() == []
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert workplace.click(INSIDE)


def test_an_editor_that_only_shows_takes_no_clicks(workplace):
    workplace.effect.scriptedEffect.optionsFrame().setEnabled(False)  # as a read-only Segment Editor does
    assert not workplace.click(INSIDE)
    assert workplace.clicks() == []


def test_a_closed_scene_forgets_what_was_taken_back(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    workplace.effect.panel.undoButton.click()
    assert workplace.effect.segmentClicks.canRedo()
    workplace.host.scene.Clear(0)
    workplace.host.process_events(0.05)
    assert workplace.points() == []
    assert not workplace.effect.segmentClicks.canRedo()
    assert workplace.effect.segmentClicks._editor.last_taken_back() == []


def test_a_tag_that_something_else_wrote_is_said_and_loses_no_mask(workplace):
    workplace.click(INSIDE)
    workplace.settle()
    mask = workplace.mask()
    workplace.segment.SetTag("CTSAM3D.Clicks", "not clicks at all")
    workplace.host.process_events(0.05)
    assert workplace.status()
    assert workplace.points() == []
    assert (workplace.mask() == mask).all()


def test_a_starting_network_says_so(workplace):
    ready, choice = threading.Event(), workplace.backends.choice
    load = choice.load
    choice.load = lambda: load() if ready.wait(20) else None
    workplace.click(INSIDE)
    assert workplace.host.process_events(20, until=lambda: workplace.status() == "Starting…")
    ready.set()
    workplace.settle()
    assert "added" in workplace.status()


def test_every_control_has_a_name_and_says_what_it_does(workplace):
    import qt

    panel = workplace.effect.panel
    controls = [widget for widget in vars(panel).values() if isinstance(widget, (qt.QAbstractButton, qt.QComboBox))]
    assert len(controls) >= 14
    for control in controls:
        assert control.objectName.startswith("CTSAM3D")
        assert len(control.toolTip) > 10
