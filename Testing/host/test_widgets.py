"""The hand-made widgets hold no name that Slicer's lack, and follow the scene."""

import pytest

from Testing.host import api

pytestmark = pytest.mark.usefixtures("slicer_host")


def hosted_classes():
    import ctk
    import slicer

    for module in (ctk, slicer):
        for name in dir(module):
            if name.startswith(("ctk", "q")) and isinstance(getattr(module, name), type):
                yield name, getattr(module, name)


def test_every_public_name_exists_in_slicer():
    unknown = []
    for name, cls in hosted_classes():
        assert api.knows(name), f"{name} is not in slicer_api.json"
        known = api.class_api(name)
        for base in cls.__mro__:
            if base.__module__.startswith("Testing.host.") and base.__name__ != "PythonQtObject":
                public = {member for member in vars(base) if not member.startswith("_")} - {"staticMetaObject"}
                unknown += [f"{name}.{member}" for member in public - known.names - QT_OVERRIDES]
    assert unknown == []


QT_OVERRIDES = {"sizeHint", "minimumSizeHint", "changeEvent", "paintEvent", "resizeEvent"}


def test_every_property_is_one_in_slicer_and_every_method_a_method():
    wrong = []
    for name, cls in hosted_classes():
        known = api.class_api(name)
        for base in cls.__mro__:
            for member, value in vars(base).items():
                if not base.__module__.startswith("Testing.host.") or member.startswith("_"):
                    continue
                if isinstance(value, property) and member not in known.properties:
                    wrong.append(f"{name}.{member} is no property")
                if callable(value) and member in known.properties:
                    wrong.append(f"{name}.{member} is a property")
    assert wrong == []


def test_what_the_host_lacks_is_told_apart_from_what_slicer_lacks():
    import slicer

    editor = slicer.qMRMLSegmentEditorWidget()
    with pytest.raises(AttributeError, match="the host for tests does not hold it yet"):
        editor.rotateSliceViewsToSegmentation()
    with pytest.raises(AttributeError, match="in Slicer"):
        editor.rotateSlices()


def test_node_combo_box_follows_the_scene(slicer_host):
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    heard = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    box.setMRMLScene(slicer.mrmlScene)
    assert box.currentNode() is None
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert box.nodeCount() == 1
    box.setCurrentNode(volume)
    assert box.currentNodeID == volume.GetID()
    slicer.mrmlScene.RemoveNode(volume)
    assert heard == [volume, None]
    with pytest.raises(AttributeError, match="no signal"):
        box.connect("currentNodeChanged(QString)", print)


def test_slider_and_spin_box_keep_one_value():
    import slicer

    slider = slicer.qMRMLSliderWidget()
    slider.minimum, slider.maximum, slider.decimals = 0, 50, 1
    slider.quantity = "length"
    heard = []
    slider.connect("valueChanged(double)", heard.append)
    slider.value = 12.5
    assert slider.value == 12.5
    assert slider.suffix == " mm"
    assert heard == [12.5]


def test_collapsible_button_folds_its_contents():
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton()
    button.text = "Models"
    layout = qt.QVBoxLayout(button)
    label = qt.QLabel("Inside")
    layout.addWidget(label)
    button.collapsed = True
    assert label.hidden if hasattr(label, "hidden") else not label.isVisibleTo(button)
    button.collapsed = False
    assert label.isVisibleTo(button)


def test_settings_are_the_tests_own(slicer_host):
    import qt
    import slicer.util

    qt.QSettings().setValue("CTSAM3D/Servers", ["https://gpu:8900"])
    assert slicer.util.settingsValue("CTSAM3D/Servers", None) == ["https://gpu:8900"]
    assert slicer_host.app.temporaryPath in slicer.util.tempDirectory()


def test_help_is_as_high_as_its_text():
    import ctk
    import qt

    frame = qt.QFrame()
    layout = qt.QVBoxLayout(frame)
    browser = ctk.ctkFittedTextBrowser()
    layout.addWidget(browser)
    browser.setCollapsibleText("One line.<br>" + "More. " * 200)
    assert browser.collapsed
    folded = frame.sizeHint.height()
    browser.collapsed = False
    assert folded < 60 < frame.sizeHint.height()


@pytest.mark.parametrize(
    ("offered", "error"),
    [({}, TypeError), ({"uris": []}, TypeError), ({"uris": [], "fileNames": ["ct.nrrd"]}, ValueError)],
)
def test_sample_data_needs_as_many_addresses_as_files_even_where_a_function_downloads(slicer_host, offered, error):
    from SampleData import SampleDataLogic

    with pytest.raises(error):
        SampleDataLogic.registerCustomSampleDataSource(sampleName="CT", customDownloader=print, **offered)
