"""The widgets of CTK that the extension uses, made of Qt's own; each holds only names that CTK's has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host.pythonqt import wrapper


def forwarded(part: str, name: str) -> property:
    """A property that is that of a part of the widget."""
    setter = f"set{name[0].upper()}{name[1:]}"
    return property(
        lambda self: getattr(getattr(self, part), name),
        lambda self, value: getattr(getattr(self, part), setter)(value),
    )


class ctkCollapsibleButton(wrapper(QtWidgets.QAbstractButton)):
    """A header with an arrow; below it the layout that the code sets, shown or folded away."""

    contentsCollapsed = QtCore.Signal(bool)
    _HEADER = 26

    def __init__(self, *arguments: Any) -> None:
        text, parent = "", None
        for argument in arguments:
            text, parent = (argument, parent) if isinstance(argument, str) else (text, argument)
        super().__init__(parent)
        self._collapsed = False
        self._flat = False
        QtWidgets.QAbstractButton.setText(self, text)
        QtWidgets.QAbstractButton.setCheckable(self, True)
        QtWidgets.QAbstractButton.setChecked(self, True)
        QtWidgets.QWidget.setContentsMargins(self, 0, self._HEADER, 0, 0)
        QtWidgets.QWidget.setSizePolicy(self, QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        QtCore.QObject.connect(self, QtCore.SIGNAL("toggled(bool)"), self._fold)

    @property
    def collapsed(self) -> bool:
        return self._collapsed

    @collapsed.setter
    def collapsed(self, collapsed: bool) -> None:
        QtWidgets.QAbstractButton.setChecked(self, not collapsed)

    @property
    def flat(self) -> bool:
        return self._flat

    @flat.setter
    def flat(self, flat: bool) -> None:
        self._flat = flat
        QtWidgets.QWidget.update(self)

    def _fold(self, opened: bool) -> None:
        self._collapsed = not opened
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(opened)
        QtWidgets.QWidget.setMaximumHeight(self, 16777215 if opened else self._HEADER)
        self.contentsCollapsed.emit(self._collapsed)

    def sizeHint(self) -> QtCore.QSize:
        layout = QtWidgets.QWidget.layout(self)
        if layout is None or self._collapsed:
            return QtCore.QSize(120, self._HEADER)
        return QtWidgets.QLayout.totalSizeHint(layout)

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = QtWidgets.QWidget.layout(self)
        if layout is None or self._collapsed:
            return QtCore.QSize(80, self._HEADER)
        return QtWidgets.QLayout.totalMinimumSize(layout)

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), self._HEADER)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        option.rect = option.rect.adjusted(26, 0, -4, 0)
        alignment = QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter
        painter.drawText(option.rect, alignment, QtWidgets.QAbstractButton.text(self))
        arrow = "PE_IndicatorArrowRight" if self._collapsed else "PE_IndicatorArrowDown"
        option.rect = QtCore.QRect(8, 7, 12, 12)
        painter.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, arrow), option)


class ctkCollapsibleGroupBox(wrapper(QtWidgets.QGroupBox)):
    """A group box whose check box folds it away."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        QtWidgets.QGroupBox.setCheckable(self, True)
        QtCore.QObject.connect(self, QtCore.SIGNAL("toggled(bool)"), self._fold)

    @property
    def collapsed(self) -> bool:
        return not QtWidgets.QGroupBox.isChecked(self)

    @collapsed.setter
    def collapsed(self, collapsed: bool) -> None:
        QtWidgets.QGroupBox.setChecked(self, not collapsed)

    def _fold(self, opened: bool) -> None:
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(opened)


class _NumberWidget(wrapper(QtWidgets.QWidget)):
    """What spin box and slider share."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._spin_box = wrapper(QtWidgets.QDoubleSpinBox)()
        layout = wrapper(QtWidgets.QHBoxLayout)(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin_box)
        self._spin_box.valueChanged.connect(self.valueChanged.emit)

    value = forwarded("_spin_box", "value")
    minimum = forwarded("_spin_box", "minimum")
    maximum = forwarded("_spin_box", "maximum")
    singleStep = forwarded("_spin_box", "singleStep")
    decimals = forwarded("_spin_box", "decimals")
    prefix = forwarded("_spin_box", "prefix")
    suffix = forwarded("_spin_box", "suffix")

    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._spin_box.setDecimals(decimals)


class ctkDoubleSpinBox(_NumberWidget):
    """A spin box of floating-point numbers."""

    editingFinished = QtCore.Signal()

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._spin_box.editingFinished.connect(self.editingFinished.emit)


class ctkSliderWidget(_NumberWidget):
    """A slider and a spin box of one value."""

    _STEPS = 1000

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, self._STEPS)
        QtWidgets.QWidget.layout(self).insertWidget(0, self._slider, 1)
        self._slider.valueChanged.connect(self._set_from_slider)
        self._spin_box.valueChanged.connect(self._show_on_slider)

    tracking = forwarded("_spin_box", "keyboardTracking")

    @property
    def spinBoxVisible(self) -> bool:
        return not self._spin_box.isHidden()

    @spinBoxVisible.setter
    def spinBoxVisible(self, visible: bool) -> None:
        self._spin_box.setVisible(visible)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self.spinBoxVisible = visible

    def _set_from_slider(self, step: int) -> None:
        self._spin_box.setValue(self.minimum + step / self._STEPS * (self.maximum - self.minimum))

    def _show_on_slider(self, value: float) -> None:
        span = self.maximum - self.minimum
        blocker = QtCore.QSignalBlocker(self._slider)
        self._slider.setValue(round((value - self.minimum) / span * self._STEPS) if span else 0)
        blocker.unblock()


class ctkComboBox(wrapper(QtWidgets.QComboBox)):
    """A combo box with a text for "nothing chosen"."""

    defaultText = property(
        QtWidgets.QComboBox.placeholderText, lambda self, text: QtWidgets.QComboBox.setPlaceholderText(self, text)
    )


class ctkPathLineEdit(wrapper(QtWidgets.QWidget)):
    """A path with a button to browse for it. Browsing is left out: it waits for the user."""

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    Dirs, Files, Readable, Writable, NoDot, NoDotDot = 1, 2, 16, 32, 8192, 16384

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._combo_box = wrapper(QtWidgets.QComboBox)()
        QtWidgets.QComboBox.setEditable(self._combo_box, True)
        self._button = QtWidgets.QToolButton()
        self._button.setText("…")
        layout = wrapper(QtWidgets.QHBoxLayout)(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box, 1)
        layout.addWidget(self._button)
        self._combo_box.editTextChanged.connect(self._announce)
        self._filters, self._name_filters, self._setting_key = 0, (), ""

    filters = property(lambda self: self._filters, lambda self, filters: setattr(self, "_filters", filters))
    settingKey = property(lambda self: self._setting_key, lambda self, key: setattr(self, "_setting_key", key))
    nameFilters = property(
        lambda self: self._name_filters, lambda self, filters: setattr(self, "_name_filters", tuple(filters))
    )

    @property
    def currentPath(self) -> str:
        return self._combo_box.currentText

    @currentPath.setter
    def currentPath(self, path: str) -> None:
        self._combo_box.setEditText(path)

    def setCurrentPath(self, path: str) -> None:
        self.currentPath = path

    def addCurrentPathToHistory(self) -> None:
        self._combo_box.addItem(self.currentPath)

    def comboBox(self) -> Any:
        return self._combo_box

    def _announce(self, path: str) -> None:
        self.currentPathChanged.emit(path)
        self.validInputChanged.emit(Path(path).exists())


class ctkFittedTextBrowser(wrapper(QtWidgets.QTextBrowser)):
    """A text as high as it needs, folded to the part before the first `<br>` where it is collapsible."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._html, self._collapsed = "", True
        QtWidgets.QTextBrowser.setVerticalScrollBarPolicy(self, QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        QtWidgets.QTextBrowser.setSizePolicy(self, QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)

    @property
    def collapsed(self) -> bool:
        return self._collapsed

    @collapsed.setter
    def collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        teaser, _, more = self._html.partition("<br>")
        QtWidgets.QTextBrowser.setHtml(
            self, f"{teaser} <a href='#'>Show details.</a>" if collapsed and more else self._html
        )
        QtWidgets.QWidget.updateGeometry(self)

    def setCollapsibleText(self, text: str) -> None:
        self._html = text
        self.collapsed = self._collapsed

    def collapsibleText(self) -> str:
        return self._html

    def sizeHint(self) -> QtCore.QSize:
        document = QtWidgets.QTextEdit.document(self).clone()
        document.setTextWidth(max(100, QtWidgets.QWidget.width(self) - 4))
        return QtCore.QSize(200, int(document.size().height()) + 4)

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint

    def changeEvent(self, event: QtCore.QEvent) -> None:
        QtWidgets.QTextBrowser.changeEvent(self, event)
        if event.type() == QtCore.QEvent.Type.PaletteChange:
            self.collapsed = self._collapsed  # the colour of links is taken when the text is set

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        QtWidgets.QTextBrowser.resizeEvent(self, event)
        QtWidgets.QWidget.updateGeometry(self)


class ctkMessageBox(wrapper(QtWidgets.QMessageBox)):
    """A message box that can be told not to come again."""

    def __init__(self, *parent: Any) -> None:
        super().__init__(*parent)
        self._settings_key = ""

    dontShowAgainSettingsKey = property(
        lambda self: self._settings_key, lambda self, key: setattr(self, "_settings_key", key)
    )


class ctkMenuButton(wrapper(QtWidgets.QPushButton)):
    """A button with a menu beside it."""
