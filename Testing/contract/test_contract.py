"""What the extension calls in Slicer exists there, with arguments that fit; and the check can fail."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="Qt cannot be loaded here", exc_type=ImportError)

from Testing.contract.checker import Checker, check

SOURCES = Path(__file__).resolve().parents[2] / "CTSAM3D"
FILES = sorted(
    [
        *SOURCES.glob("*.py"),
        *SOURCES.glob("SegmentEditorCTSAM3DLib/*.py"),
        *SOURCES.glob("CTSAM3DWidgets/*.py"),
        *SOURCES.glob("CTSAM3DLib/mrml/*.py"),
        *SOURCES.parent.glob("Testing/Python/*.py"),
    ]
)
ALLOWED: dict[str, str] = {}
"""Findings that are right in Slicer all the same, by their text, each with its reason."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCES.parent).as_posix())
def test_the_extension_calls_only_what_slicer_has(path):
    assert [str(finding) for finding in check(path) if finding.message not in ALLOWED] == []


def test_enough_is_looked_up_to_mean_something():
    checkers = [Checker(path, ast.parse(path.read_text())) for path in FILES]
    for checker in checkers:
        checker.findings()
    assert sum(checker.checked for checker in checkers) > 500


EFFECT = """
    import ctk
    import qt
    import slicer
    import vtk
    from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
    from slicer.i18n import tr as _


    class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
        def setupOptionsFrame(self):
            self.slider = ctk.ctkSliderWidget()
            self.button = qt.QPushButton(_("Go"))
            self.scriptedEffect.addLabeledOptionsWidget("Radius:", self.slider)
            self.button.connect("clicked(bool)", self.onGo)

        def onGo(self, checked):
            node = self.scriptedEffect.parameterSetNode()
            segmentation = node.GetSegmentationNode().GetSegmentation()
            labelmap = self.scriptedEffect.defaultModifierLabelmap()
            mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
            self.scriptedEffect.modifySelectedSegmentByLabelmap(labelmap, mode)
            slicer.util.showStatusMessage(_("Done"), 2000)

        def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
            return eventId == vtk.vtkCommand.LeftButtonPressEvent and viewWidget.className() == "qMRMLSliceWidget"
"""


def findings(source, tmp_path):
    path = tmp_path / "Code.py"
    path.write_text(dedent(source))
    return [finding.message for finding in check(path)]


def test_right_code_has_no_findings(tmp_path):
    assert findings(EFFECT, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        # names that Slicer does not have
        ("ctk.ctkSliderWidget()", "ctk.ctkSliderWidgit()", "ctk has no 'ctkSliderWidgit'"),
        ("qt.QPushButton(", "qt.QPushButtn(", "qt has no 'QPushButtn'"),
        ("parameterSetNode()", "parameterNode()", "qSlicerSegmentEditorScriptedEffect has no 'parameterNode'"),
        ("slicer.util.showStatusMessage", "slicer.util.showStatus", "slicer.util has no 'showStatus'"),
        (".GetSegmentation()", ".GetSegments()", "vtkMRMLSegmentationNode has no 'GetSegments'"),
        ("LeftButtonPressEvent", "LeftPressEvent", "vtkCommand has no 'LeftPressEvent'"),
        ("ModificationModeSet", "ModificationModeReplace", "has no 'ModificationModeReplace'"),
        ("slicer.util.show", "slicer.utils.show", "slicer has no 'utils'"),
        ("slicer.i18n import tr as _", "slicer.i18n import trans as _", "slicer.i18n has no 'trans'"),
        ("slicer.util.showStatusMessage", "slicer.arrayFromVolume", "slicer has no 'arrayFromVolume'"),
        # arguments that do not fit
        ("defaultModifierLabelmap()", "defaultModifierLabelmap(1)", "takes 0 arguments, not 1"),
        ('"Radius:", self.slider', "self.slider", "takes 2 arguments, not 1"),
        ("labelmap, mode", "labelmap", "arguments, not 1"),
        ("labelmap, mode", "labelmap, modificationMode=mode", "takes positional arguments only"),
        ('_("Done"), 2000', '_("Done"), milliseconds=2000', "has no argument 'milliseconds'"),
        (".GetSegmentation()", ".GetSegmentation(0)", "takes 0 arguments, not 1"),
        # PythonQt's ways
        ("self.slider = ctk.ctkSliderWidget()", "self.slider = ctk.ctkSliderWidget().value()", "is not called"),
        ('"clicked(bool)"', '"clicked(int)"', "QPushButton has no signal 'clicked(int)'"),
        # callbacks and inherited methods
        ("callerInteractor, eventId, viewWidget):", "callerInteractor, eventId):", "with 3 arguments, not 2"),
        ("self.onGo)", "self.onGone)", "have no 'onGone'"),
    ],
)
def test_wrong_code_is_found(right, wrong, message, tmp_path):
    assert right in EFFECT
    found = findings(EFFECT.replace(right, wrong), tmp_path)
    assert any(message in finding for finding in found), found


def test_read_only_properties_and_methods_cannot_be_set(tmp_path):
    source = """
        import slicer

        def f(scriptedEffect):
            scriptedEffect.title = "CT"
            scriptedEffect.parameterSetNode = None
            slicer.app.temporaryPath = "/tmp"
            slicer.app.slicerHome = "/"
    """
    assert findings(source, tmp_path) == [
        "'parameterSetNode' of qSlicerSegmentEditorScriptedEffect cannot be set",
        "'slicerHome' of qSlicerApplication cannot be set",
    ]


@pytest.mark.parametrize(
    "line", ["import slicer", "import slicer.util", "from slicer import util", "from slicer.i18n import tr"]
)
def test_a_submodule_that_nobody_imported_is_found(line, tmp_path):
    source = f"import slicer\n{line}\nslicer.packaging.pip_check('numpy')\n"
    assert findings(source, tmp_path) == ["slicer has no 'packaging'"]


@pytest.mark.parametrize(
    "line",
    [
        "import slicer.packaging",
        "import slicer.packaging as p",
        "from slicer import packaging",
        "from slicer.packaging import pip_check",
    ],
)
def test_an_imported_submodule_is_looked_into(line, tmp_path):
    source = f"import slicer\n{line}\nslicer.packaging.pip_check('numpy')\nslicer.packaging.pip_chek('numpy')\n"
    assert findings(source, tmp_path) == ["slicer.packaging has no 'pip_chek'"]


def test_the_import_of_a_submodule_that_slicer_does_not_have_is_found(tmp_path):
    assert findings("import slicer.pakaging", tmp_path) == ["slicer has no 'pakaging'"]


def test_annotations_and_made_nodes_are_followed(tmp_path):
    source = """
        import slicer

        def f(node: slicer.vtkMRMLSegmentationNode | None, scene: slicer.vtkMRMLScene) -> None:
            node.GetSegmentation().GetSegment("liver").SetNam("Liver")
            points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Clicks")
            points.AddControlPoint()
            points.AddFiducials(1, 2, 3)
    """
    found = findings(source, tmp_path)
    assert found[0] == "vtkSegment has no 'SetNam'"
    assert "vtkMRMLMarkupsFiducialNode.AddControlPoint takes" in found[1]
    assert found[2] == "vtkMRMLMarkupsFiducialNode has no 'AddFiducials'"
