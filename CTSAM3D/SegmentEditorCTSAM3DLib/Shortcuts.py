"""Keys that work while the effect is active. None of them is one of the Segment Editor's own.

The Segment Editor takes 0 to 9 with and without Shift, Escape, Space, Z, Y, Q, W, I, / * , . < and >; the views take
B, F, G, R, T and V.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt
import slicer

UNDO_CLICK = "U"
REDO_CLICK = "Shift+U"
SWAP_SIGN = "N"
KEEP_THE_REST = "K"
CANCEL = "C"


class Shortcuts:
    """Keyboard shortcuts of the main window, there only between `install` and `remove`."""

    def __init__(self, slots: Mapping[str, Callable[[], None]]) -> None:
        """`slots` tells for each key, written as in "Shift+U", what it calls."""
        self._slots = dict(slots)
        self._installed: list[qt.QShortcut] = []

    def install(self) -> None:
        """Take the keys. Without a main window, as in batch runs, there are none to take."""
        window = slicer.util.mainWindow()
        if window is None or self._installed:
            return
        for keys, slot in self._slots.items():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), window)
            shortcut.connect("activated()", slot)
            self._installed.append(shortcut)

    def remove(self) -> None:
        """Give the keys back; may be called twice."""
        for shortcut in self._installed:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._installed = []
