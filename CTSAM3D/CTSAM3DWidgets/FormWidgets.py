"""Small widgets made alike: a name to find them by, a tooltip, and no size that would widen Slicer's panel."""

from __future__ import annotations

import ctk
import qt
from slicer.i18n import tr as _

from CTSAM3DLib.interaction.controls import REACH_LABELS


def button(name: str, text: str, toolTip: str):
    """A push button."""
    widget = qt.QPushButton(text)
    return _named(widget, name, toolTip)


def checkBox(name: str, text: str, toolTip: str):
    """A check box."""
    widget = qt.QCheckBox(text)
    return _named(widget, name, toolTip)


def radioButton(name: str, text: str, toolTip: str):
    """One of several choices, whose mark shows in every style which one is taken."""
    widget = qt.QRadioButton(text)
    return _named(widget, name, toolTip)


def comboBox(name: str, toolTip: str):
    """A combo box that takes the room there is, however long its texts are."""
    widget = qt.QComboBox()
    widget.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
    return _named(widget, name, toolTip)


def lineEdit(name: str, placeholder: str, toolTip: str):
    """A line to type in."""
    widget = qt.QLineEdit()
    widget.placeholderText = placeholder
    return _named(widget, name, toolTip)


def label(name: str, text: str = ""):
    """A text that wraps, to be selected and copied."""
    widget = qt.QLabel(text)
    widget.wordWrap = True
    widget.setTextFormat(qt.Qt.PlainText)  # some of what is shown comes from servers
    widget.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
    return _named(widget, name, "")


def say(textLabel, text: str) -> None:
    """Show a text in a label, which takes no room while there is none."""
    textLabel.setText(text)
    textLabel.visible = bool(text)


def row(*widgets):
    """Widgets side by side."""
    layout = qt.QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def busyRow(name: str, toolTip: str):
    """A progress bar and its Cancel button in a widget, to be shown while something is on its way: all three."""
    progressBar = qt.QProgressBar()
    progressBar.objectName = f"CTSAM3D{name}Progress"
    cancelButton = button(f"{name}Cancel", _("Cancel"), toolTip)
    widget = qt.QWidget()
    widget.setLayout(row(progressBar, cancelButton))
    return widget, progressBar, cancelButton


def reachBox(name: str):
    """A combo box of how far a segment may go, as CTSAM3DLib calls it."""
    widget = comboBox(name, _("How far from a click a segment may go."))
    for reach, text in REACH_LABELS.items():
        widget.addItem(_(text), reach)
    return widget


def section(name: str, title: str, parentLayout, collapsed: bool = False):
    """A collapsible part of the module's panel; gives the form layout to fill."""
    widget = ctk.ctkCollapsibleButton()
    widget.objectName = "CTSAM3D" + name
    widget.text = title
    widget.collapsed = collapsed
    parentLayout.addWidget(widget)
    return qt.QFormLayout(widget)


def setChoices(box, choices) -> None:
    """Fill a combo box with (text, data) pairs, keeping its choice where it is still there, and signals quiet."""
    wasBlocked = box.blockSignals(True)
    chosen = box.currentData
    box.clear()
    for text, data in choices:
        box.addItem(text, data)
    box.setCurrentIndex(box.findData(chosen))
    box.blockSignals(wasBlocked)


def choose(box, data) -> None:
    """Choose an item of a combo box by its data, signals quiet."""
    wasBlocked = box.blockSignals(True)
    box.setCurrentIndex(box.findData(data))
    box.blockSignals(wasBlocked)


def _named(widget, name: str, toolTip: str):
    widget.objectName = "CTSAM3D" + name
    widget.setToolTip(toolTip)
    return widget
