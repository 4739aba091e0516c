"""Keys that work while the effect is active. None of them is one of the Segment Editor's own.

The Segment Editor takes 0 to 9 with and without Shift, Escape, Space, Z, Y, Q, W, I, / * , . < and >; the views take
B, F, G, R, T and V.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt

UNDO_CLICK = "U"
REDO_CLICK = "Shift+U"
SWAP_SIGN = "N"
KEEP_THE_REST = "K"
CANCEL = "C"


class Shortcuts:
    """Keyboard shortcuts of the window that the effect's options are in, between `install` and `remove`."""

    def __init__(self, optionsFrame, slots: Mapping[str, Callable[[], None]]) -> None:
        """`slots` tells for each key, written as in "Shift+U", what it calls."""
        self._shortcuts = []
        for keys, slot in slots.items():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), optionsFrame)
            shortcut.connect("activated()", slot)
            self._shortcuts.append(shortcut)
        self.remove()

    def install(self) -> None:
        """Take the keys."""
        for shortcut in self._shortcuts:
            shortcut.enabled = True

    def remove(self) -> None:
        """Give the keys back; may be called twice."""
        for shortcut in self._shortcuts:
            shortcut.enabled = False
