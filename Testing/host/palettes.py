"""The colours of Slicer's light and dark style."""

from PySide6 import QtGui

_ROLES = {
    # role: (light, dark)
    "Window": ("#efefef", "#353535"),
    "WindowText": ("#000000", "#ffffff"),
    "Base": ("#ffffff", "#2a2a2a"),
    "AlternateBase": ("#f5f5f5", "#353535"),
    "Text": ("#000000", "#ffffff"),
    "Button": ("#efefef", "#353535"),
    "ButtonText": ("#000000", "#ffffff"),
    "BrightText": ("#ff0000", "#ff0000"),
    "ToolTipBase": ("#ffffdc", "#353535"),
    "ToolTipText": ("#000000", "#ffffff"),
    "Highlight": ("#308cc6", "#2a82da"),
    "HighlightedText": ("#ffffff", "#000000"),
    "Link": ("#0000ff", "#2a82da"),
    "PlaceholderText": ("#808080", "#909090"),
    "Light": ("#ffffff", "#505050"),
    "Midlight": ("#e3e3e3", "#454545"),
    "Mid": ("#b8b8b8", "#2a2a2a"),
    "Dark": ("#9f9f9f", "#1e1e1e"),
    "Shadow": ("#767676", "#141414"),
}
_DISABLED = {"WindowText": "#808080", "Text": "#808080", "ButtonText": "#808080"}


def palette(dark: bool) -> QtGui.QPalette:
    """Every role set, so that a picture does not depend on the machine's theme."""
    colours = QtGui.QPalette()
    for role, pair in _ROLES.items():
        colours.setColor(getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(pair[dark]))
    for role, colour in _DISABLED.items():
        colours.setColor(
            QtGui.QPalette.ColorGroup.Disabled, getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(colour)
        )
    return colours
