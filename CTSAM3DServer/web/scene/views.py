"""What is drawn in HTML over the views: their names, the patient's sides, the slider through the slices."""

from __future__ import annotations

import asyncio

from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_server import Server
from trame_server.state import State
from trame_slicer.app.logic import connect_slice_view_slider_to_state
from trame_slicer.app.ui import Slider
from trame_slicer.views import AbstractView, SliceView

from CTSAM3DServer.web.scene.scene import BEFORE_THE_VIEW, Scene, letters

POINTER_S = 0.05
"""The place under the mouse is told at most so often."""
_NAMES = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


def decorate_slices(server: Server, view_id: str, view: SliceView) -> None:
    """Draw the name, the slider and the letters over a slice view, and keep the letters true as it turns."""
    key = f"letters_{view_id}"

    def show_letters(*_: object) -> None:
        with server.state as state:
            state[key] = letters(view)

    view.modified.connect(show_letters)
    show_letters()
    _name_and_fit(view, _NAMES.get(view.get_singleton_tag(), view.get_singleton_tag()))
    for edge in ("left", "right", "top", "bottom"):
        html.Span(f"{{{{ {key}.{edge} }}}}", classes=f"ctsam3d-letter ctsam3d-{edge}")
    with html.Div(classes="ctsam3d-slider"):
        Slider(connect_slice_view_slider_to_state(server, view), classes="ctsam3d-slices", density="compact")


def decorate_surfaces(server: Server, view_id: str, view: AbstractView) -> None:
    """Draw the name over the view in 3D."""
    _name_and_fit(view, "3D")


def tell_pointer(scene: Scene, state: State) -> None:
    """Keep `state.pointer` at the place under the mouse in a slice view and the CT's value there."""
    state.pointer = ""
    pointer = _Pointer(scene, state)
    for view in scene.slice_views():
        view.interactor().AddObserver("MouseMoveEvent", lambda *_, view=view: pointer.moved(view), BEFORE_THE_VIEW)
        view.interactor().AddObserver("LeaveEvent", lambda *_: pointer.left(), BEFORE_THE_VIEW)


class _Pointer:
    def __init__(self, scene: Scene, state: State) -> None:
        self._scene = scene
        self._state = state
        self._view: SliceView | None = None
        self._timer: asyncio.TimerHandle | None = None

    def moved(self, view: SliceView) -> None:
        self._view = view
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POINTER_S, self._tell)

    def left(self) -> None:
        self._view = None
        self._tell()

    def _tell(self) -> None:
        self._timer = None
        with self._state as state:
            state.pointer = "" if self._view is None else self._text(self._view)

    def _text(self, view: SliceView) -> str:
        xy = view.interactor().GetEventPosition()
        r, a, s, _ = view.get_view_node().GetXYToRAS().MultiplyPoint((*xy, 0.0, 1.0))
        hu = self._scene.hu((r, a, s))
        if hu is None:
            return ""
        sides = zip((-r, -a, s), ("LR", "PA", "SI"), strict=True)
        place = "  ".join(f"{names[int(mm < 0)]} {abs(mm):.1f}" for mm, names in sides)
        return f"{place} mm   {hu:.0f} HU"


def _name_and_fit(view: AbstractView, name: str) -> None:
    with html.Div(classes="ctsam3d-corner"):
        html.Span(name, classes=f"ctsam3d-name ctsam3d-{name.lower()}")
        with v3.VBtn(icon=True, size="x-small", variant="text", click=view.reset_view):
            v3.VIcon("mdi-fit-to-screen-outline", size="small")
            v3.VTooltip("Show all of it", activator="parent", location="right")
