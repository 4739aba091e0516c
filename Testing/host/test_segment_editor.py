"""The host drives a small effect as the Segment Editor of Slicer drives it."""

import sys
from textwrap import dedent

import numpy as np
import pytest

EFFECT = dedent('''
    import qSlicerSegmentationsEditorEffectsPythonQt as effects
    import qt
    import vtk
    from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect


    class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
        """Notes what is called, and fills the first row of the selected segment at each left click."""

        def __init__(self, scriptedEffect):
            scriptedEffect.name = "Filler"
            scriptedEffect.title = "Filler"
            scriptedEffect.showEffectCursorInSliceView = False
            AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
            self.calls = []
            self.clicks = []

        def clone(self):
            clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
            clonedEffect.setPythonSource(__file__)
            return clonedEffect

        def helpText(self):
            return "Fills a row.<br>At each click."

        def setupOptionsFrame(self):
            self.sceneAtSetup = self.scriptedEffect.scene()
            self.button = qt.QPushButton("Fill")
            self.scriptedEffect.addOptionsWidget(self.button)

        def setMRMLDefaults(self):
            self.calls.append("setMRMLDefaults")
            self.scriptedEffect.setParameterDefault("Radius", 12.5)

        def activate(self):
            self.calls.append("activate")

        def deactivate(self):
            self.calls.append("deactivate")

        def updateGUIFromMRML(self):
            self.calls.append("updateGUIFromMRML")

        def sourceVolumeNodeChanged(self):
            self.calls.append("sourceVolumeNodeChanged")

        def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
            if eventId != vtk.vtkCommand.LeftButtonPressEvent:
                return False
            position = self.xyToRas(callerInteractor.GetEventPosition(), viewWidget)
            self.clicks.append((position, callerInteractor.GetControlKey()))
            labelmap = self.scriptedEffect.defaultModifierLabelmap()
            labelmap.SetScalarComponentFromFloat(0, 0, 0, 0, 1)
            self.scriptedEffect.saveStateForUndo()
            self.scriptedEffect.modifySelectedSegmentByLabelmap(labelmap, self.scriptedEffect.ModificationModeAdd)
            return True
''')


@pytest.fixture
def editor(slicer_host, tmp_path, monkeypatch):
    """A Segment Editor with the effect registered, a volume, and a segmentation of two segments."""
    import slicer
    import slicer.util

    package = tmp_path / "FillerEffectLib"
    package.mkdir()
    source = package / "SegmentEditorEffect.py"
    source.write_text(EFFECT)
    monkeypatch.delitem(sys.modules, "FillerEffectLib", raising=False)
    effect = slicer.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(str(source))
    effect.self().register()
    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="CT")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("liver", "kidney"):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    editor = slicer_host.segment_editor()
    editor.setSegmentationNode(segmentation)
    return editor


def voxels(editor, segment_id="liver"):
    import slicer.util

    arguments = (editor.segmentationNode(), segment_id, editor.sourceVolumeNode())
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(*arguments).sum())


def test_callbacks_come_in_slicers_order(editor):
    assert editor.sourceVolumeNode().GetName() == "CT"
    assert editor.currentSegmentID() == "liver"
    effect = editor.effectByName("Filler").self()
    assert effect.sceneAtSetup is None
    editor.setActiveEffectByName("Filler")
    assert effect.calls == ["setMRMLDefaults", "sourceVolumeNodeChanged", "updateGUIFromMRML", "activate"]
    editor.setActiveEffectByName("")
    assert effect.calls[-1] == "deactivate"


def test_a_click_reaches_the_active_effect_with_its_place_and_modifier(editor, slicer_host):
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red")
    assert not slicer_host.click(red, (-1, -2, 3))
    editor.setActiveEffectByName("Filler")
    assert slicer_host.click(red, (-1, -2, 3), control=True)
    assert not slicer_host.click(red, (-1, -2, 3), button="Right")
    ((position, control),) = editor.activeEffect().self().clicks
    assert position == pytest.approx((-1, -2, 3), abs=0.6)  # half a pixel
    assert control == 1


def test_undo_and_redo_are_the_logics(editor, slicer_host):
    import slicer

    editor.setActiveEffectByName("Filler")
    slicer_host.click(slicer.app.layoutManager().sliceWidget("Red"), (0, 0, 0))
    assert voxels(editor) == 1
    editor.undo()
    assert voxels(editor) == 0
    editor.redo()
    assert voxels(editor) == 1
    assert voxels(editor, "kidney") == 0


def test_parameters_are_attributes_of_the_node(editor):
    effect = editor.effectByName("Filler")
    assert editor.mrmlSegmentEditorNode().GetAttribute("Filler.Radius") == "12.5"
    effect.setParameter("Radius", 2)
    assert (effect.integerParameter("Radius"), effect.doubleParameter("Radius")) == (2, 2.0)
    with pytest.raises(KeyError, match="setMRMLDefaults"):
        effect.parameter("Diameter")
    with pytest.raises(TypeError, match="str, an int or a float"):
        effect.setParameter("Radius", True)


def test_losing_the_segment_deselects_the_effect(editor):
    editor.setActiveEffectByName("Filler")
    editor.segmentationNode().GetSegmentation().RemoveSegment("liver")
    assert editor.currentSegmentID() == ""
    assert editor.activeEffect() is None


def test_closing_the_scene_deselects_the_effect_and_sets_defaults_again(editor, slicer_host):
    editor.setActiveEffectByName("Filler")
    effect = editor.activeEffect().self()
    effect.calls.clear()
    slicer_host.scene.Clear(0)
    assert effect.calls == ["setMRMLDefaults", "deactivate"]
    assert editor.segmentationNode() is None


def test_two_editors_have_their_own_copies(editor, slicer_host):
    other = slicer_host.segment_editor()
    assert other.effectByName("Filler").self() is not editor.effectByName("Filler").self()


def test_an_error_in_a_callback_fails_the_test(editor, slicer_host, monkeypatch):
    import slicer

    editor.setActiveEffectByName("Filler")
    monkeypatch.setattr(editor.activeEffect().self(), "processInteractionEvents", lambda *_: None)
    with pytest.raises(TypeError, match="has to return a bool"):
        slicer_host.click(slicer.app.layoutManager().sliceWidget("Red"), (0, 0, 0))


def test_a_panel_is_drawn_in_light_and_dark(editor, slicer_host, tmp_path):
    from PySide6.QtGui import QImage

    editor.setActiveEffectByName("Filler")
    light, dark = (
        QImage(str(slicer_host.render(editor, tmp_path / f"{is_dark}.png", dark=is_dark))).pixelColor(2, 2).lightness()
        for is_dark in (False, True)
    )
    assert light > 200
    assert dark < 80


def test_surfaces_can_be_picked_in_3d(editor, slicer_host):
    import slicer
    import vtk

    editor.setActiveEffectByName("Filler")
    slicer_host.click(slicer.app.layoutManager().sliceWidget("Red"), (0, 0, 0))
    editor.segmentationNode().CreateClosedSurfaceRepresentation()
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    slicer.app.layoutManager().resetThreeDViews()
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    picker = vtk.vtkCellPicker()
    width, height = view.renderWindow().GetSize()
    assert picker.Pick(width / 2, height / 2, 0, renderer)
    manager = view.displayableManagerByClassName("vtkMRMLSegmentationsDisplayableManager3D")
    manager.Pick3D(picker.GetPickPosition())
    display = slicer.mrmlScene.GetNodeByID(manager.GetPickedNodeID())
    assert display is editor.segmentationNode().GetDisplayNode()
