"""What works in Slicer works on the host, and what does not work there fails here."""

import pytest

pytestmark = pytest.mark.usefixtures("slicer_host")


@pytest.fixture
def button():
    import qt

    return qt.QPushButton("Go")


def test_properties_are_read_and_set_without_a_call(button):
    button.text = "Stop"
    button.enabled = False
    assert (button.text, button.enabled, button.checked) == ("Stop", False, False)
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_setters_and_other_methods_are_called(button):
    button.setText("Stop")
    assert button.text == "Stop"
    with pytest.raises(TypeError, match="positional arguments only"):
        button.setText(text="Go")


def test_objects_of_qt_take_no_new_attributes_and_read_only_properties_stay(button):
    with pytest.raises(AttributeError, match="no new attributes"):
        button.clickCount = 3
    with pytest.raises(AttributeError, match="cannot be set"):
        button.width = 3


@pytest.mark.parametrize("name", ["clickd", "set_text", "Text"])
def test_misspelt_names_fail(button, name):
    with pytest.raises(AttributeError, match=name):
        getattr(button, name)


def test_signals_are_connected_by_their_signature(button):
    heard = []
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.connect("clicked()", lambda *nothing: heard.append(nothing))
    button.clicked.connect(lambda checked: heard.append(checked))
    button.click()
    assert sorted(map(str, heard)) == ["()", "False", "False"]


@pytest.mark.parametrize("signature", ["clickd()", "clicked(QString)", "clicked"])
def test_a_signal_that_does_not_exist_cannot_be_connected(button, signature):
    with pytest.raises(AttributeError, match="no signal"):
        button.connect(signature, print)


def test_disconnected_slots_are_not_called(button):
    heard = []
    button.connect("clicked()", heard.append)
    assert button.disconnect("clicked()", heard.append)
    button.click()
    assert heard == []


def test_what_qt_made_itself_behaves_the_same():
    import qt

    form = qt.QFormLayout()
    edit = qt.QLineEdit()
    form.addRow("Label", edit)
    label = form.labelForField(edit)
    assert label.text == "Label"
    assert isinstance(label, qt.QLabel)
    assert isinstance(label, qt.QWidget)
    assert not isinstance(label, qt.QLineEdit)


def test_python_subclasses_have_attributes_and_override_virtual_methods():
    import qt

    class Panel(qt.QWidget):
        def __init__(self, parent=None):
            super().__init__(parent)
            self.clicks = 3

        def sizeHint(self):
            return qt.QSize(123, 45)

    panel = Panel()
    frame = qt.QFrame()
    layout = qt.QVBoxLayout(frame)
    layout.addWidget(panel)
    layout.setContentsMargins(0, 0, 0, 0)
    assert panel.clicks == 3
    assert frame.sizeHint.width() == 123


def test_children_are_found_by_object_name_and_class():
    import qt

    frame = qt.QFrame()
    edit = qt.QLineEdit(frame)
    edit.objectName = "address"
    assert frame.findChild(qt.QLineEdit, "address") is edit
    assert frame.findChild("QLineEdit") is edit
    assert frame.address is edit
    assert frame.findChild(qt.QLabel) is None


def test_timers_run_with_the_events(slicer_host):
    import qt

    ticks = []
    timer = qt.QTimer()
    timer.singleShot = True
    timer.setInterval(1)
    timer.connect("timeout()", lambda: ticks.append("timer"))
    timer.start()
    qt.QTimer.singleShot(1, lambda: ticks.append("shot"))
    assert slicer_host.process_events(2, until=lambda: len(ticks) == 2)
    assert not timer.active


def test_a_dialog_that_waits_fails_with_its_text(monkeypatch):
    import qt

    with pytest.raises(AssertionError, match="Remove it"):
        qt.QMessageBox.question(None, "Title", "Remove it?")
    box = qt.QMessageBox()
    box.text = "Sure?"
    with pytest.raises(AssertionError, match="Sure"):
        box.exec_()
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: "params.pth"))
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "params.pth"


@pytest.mark.parametrize("name", ["Signal", "Slot", "QtCore", "QNoSuchWidget"])
def test_names_that_slicers_qt_lacks_fail(name):
    import qt

    with pytest.raises(AttributeError, match=name):
        getattr(qt, name)


def test_disconnecting_nothing_says_so(button):
    assert not button.disconnect("clicked(bool)")
    button.connect("clicked(bool)", lambda checked: None)
    assert button.disconnect("clicked(bool)")


def test_an_object_that_qt_made_can_be_changed_connected_and_handed_on():
    import qt

    box = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok)
    ok = box.button(qt.QDialogButtonBox.Ok)
    heard = []
    ok.connect("clicked(bool)", lambda checked: heard.append(checked))
    ok.text = "Go"
    ok.click()
    assert heard == [False]
    assert box.button(qt.QDialogButtonBox.Ok) == ok
    assert (ok.text, ok.className()) == ("Go", "QPushButton")
    box.removeButton(ok)
    assert box.button(qt.QDialogButtonBox.Ok) is None
    with pytest.raises(AttributeError, match="no new attributes"):
        ok.clicks = 1
    with pytest.raises(AttributeError, match="clickk"):
        ok.clickk()
