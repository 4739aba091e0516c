"""Keys of the page. What they do is in one table, which the help shows too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from CTSAM3DServer.web.workspace.workspace import Workspace

MAX_SEGMENTS = 9
"""As many as there are keys to choose them by."""


@dataclass(frozen=True)
class Shortcut:
    """What keys do: as the browser names them, in words, and done."""

    keys: tuple[str, ...]
    shown: str
    meaning: str
    action: Callable[[], object]


def shortcuts(workspace: Workspace) -> list[Shortcut]:
    """All keys of a workspace's page."""
    clicking, state = workspace.clicking, workspace.state

    def toggle(name: str) -> Callable[[], None]:
        def do() -> None:
            with state:
                state[name] = not state[name]

        return do

    def segment(number: int) -> Callable[[], None]:
        return lambda: workspace.select_number(number)

    return [
        Shortcut(("U", "Ctrl+Z"), "U or Ctrl+Z", "undo", clicking.undo),
        Shortcut(("Shift+U", "Ctrl+Y", "Ctrl+Shift+Z"), "Shift+U or Ctrl+Y", "redo", clicking.redo),
        Shortcut(("N",), "N", "swap what a left click means: inside or outside", toggle("swapped")),
        Shortcut(("C", "Escape"), "C or Escape", "cancel", clicking.cancel),
        Shortcut(("A",), "A", "add a segment", workspace.add_segment),
        Shortcut((), "1 to 9", "choose a segment", lambda: None),
        *(Shortcut((str(n),), "", "", segment(n)) for n in range(1, MAX_SEGMENTS + 1)),
        Shortcut(("V",), "V", "show or hide the chosen segment", workspace.toggle_selected),
        Shortcut(("W",), "W", "next window: soft tissue, lung, bone, whole range", workspace.choose_next_window),
        Shortcut(("S",), "S", "surfaces in 3D on or off", workspace.toggle_surfaces),
        Shortcut(("F",), "F", "show all of the CT", workspace.scene.fit),
        Shortcut(("?",), "?", "this help", toggle("help")),
    ]
