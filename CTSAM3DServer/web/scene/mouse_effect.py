"""Clicks in the views: our effect, as trame-slicer's segment editor knows effects.

In a slice a left press is a click inside the structure. With Ctrl, or with the right button pressed and released at
one place, it is a click outside: a right drag still zooms. In 3D a left drag turns the scene, so that there a click is
a press and a release at one place, on the surface of a segment. A press on a point is the start of a drag, a right
click on it takes it away. Shift, Alt, the middle button and the wheel are the views'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from trame_slicer.segmentation import SegmentationEffect, SegmentationEffectPipeline
from trame_slicer.utils import ClosestToCameraPicker
from trame_slicer.views import AbstractView
from undo_stack import Signal

from CTSAM3DLib.interaction.controls import INWARDS_MM, STEADY_PIXELS
from CTSAM3DServer.web.scene.scene import BEFORE_THE_VIEW

Position = tuple[float, float, float]

FAR_AWAY = 1e9
"""Distance at which we would take an event: a point under the mouse is nearer and comes first."""


class ClickEffect(SegmentationEffect):
    """Turns events of the views into clicks and tells them: where (world RAS mm), and whether inside."""

    clicked = Signal(tuple, bool)
    removed = Signal(int)
    """A point was right-clicked: its number, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.point_under_mouse: Callable[[], int | None] = lambda: None
        """The number of the click whose point is under the mouse."""

    def _create_pipeline(
        self, view_node: slicer.vtkMRMLAbstractViewNode, parameter: slicer.vtkMRMLNode
    ) -> SegmentationEffectPipeline:
        return SlicePipeline() if isinstance(view_node, slicer.vtkMRMLSliceNode) else SurfacePipeline()


class ClickPipeline(SegmentationEffectPipeline[ClickEffect]):
    """What both kinds of view have in common; one of these is made for each view."""

    def SetView(self, view: AbstractView) -> None:  # noqa: N802 - the names of these methods are VTK's
        """Listen to the buttons' presses and releases; the view still gets them."""
        super().SetView(view)
        self._left = SteadyClick(view, "LeftButton", self._on_steady_left)
        self._right = SteadyClick(view, "RightButton", self._on_steady_right)

    def _world(self, xy: tuple[int, int]) -> Position | None:
        raise NotImplementedError

    def _on_steady_left(self, xy: tuple[int, int], control: bool) -> None:
        """A left click that was not a drag."""

    def _on_steady_right(self, xy: tuple[int, int], control: bool) -> None:
        point = self._effect.point_under_mouse() if self.IsActive() else None
        if point is not None:
            self._effect.removed(point)
        else:
            self._tell(xy, positive=False)

    def _tell(self, xy: tuple[int, int], positive: bool) -> None:
        world = self._world(xy) if self.IsActive() else None
        if world is not None:
            self._effect.clicked(world, positive)


class SlicePipeline(ClickPipeline):
    """Clicks in a slice view."""

    def CanProcessInteractionEvent(self, event: Any) -> tuple[bool, float]:  # noqa: N802
        """Take left presses, with or without Ctrl, where there is no point to drag."""
        ours = event.GetType() == vtk.vtkCommand.LeftButtonPressEvent
        busy_keys = event.GetModifiers() & (vtk.vtkEvent.ShiftModifier | vtk.vtkEvent.AltModifier)
        return bool(self.IsActive() and ours and not busy_keys), FAR_AWAY

    def ProcessInteractionEvent(self, event: Any) -> bool:  # noqa: N802
        """A left press is a click at once."""
        control = event.GetModifiers() & vtk.vtkEvent.ControlModifier
        self._tell(tuple(event.GetDisplayPosition()[:2]), positive=not control)
        return True

    def _world(self, xy: tuple[int, int]) -> Position | None:
        x, y, z, _ = self._view.get_view_node().GetXYToRAS().MultiplyPoint((*xy, 0.0, 1.0))
        return x, y, z


class SurfacePipeline(ClickPipeline):
    """Clicks on the surfaces of segments."""

    def __init__(self) -> None:
        super().__init__()
        self._picker = ClosestToCameraPicker()

    def _on_steady_left(self, xy: tuple[int, int], control: bool) -> None:
        self._tell(xy, positive=not control)

    def _world(self, xy: tuple[int, int]) -> Position | None:
        camera = self._view.renderer().GetActiveCamera()
        surface = self._picker.pick(xy, self._view.renderer(), camera)
        if surface is None:
            return None
        x, y, z = (p + INWARDS_MM * d for p, d in zip(surface, camera.GetDirectionOfProjection(), strict=True))
        return x, y, z


class SteadyClick:
    """Tells of a press and a release of a button at one place in a view; anything else is a drag.

    `told(xy, control)` gets display coordinates, and whether Ctrl was held.
    """

    def __init__(self, view: AbstractView, button: str, told: Callable[[tuple[int, int], bool], None]) -> None:
        self._registered = told
        self._pressed: tuple[int, int] | None = None
        interactor = view.interactor()
        interactor.AddObserver(f"{button}PressEvent", self._on_press, BEFORE_THE_VIEW)
        interactor.AddObserver(f"{button}ReleaseEvent", self._on_release, BEFORE_THE_VIEW)

    def _on_press(self, interactor: vtk.vtkRenderWindowInteractor, _event: str) -> None:
        free = not (interactor.GetShiftKey() or interactor.GetAltKey())
        self._pressed = interactor.GetEventPosition() if free else None

    def _on_release(self, interactor: vtk.vtkRenderWindowInteractor, _event: str) -> None:
        pressed, self._pressed = self._pressed, None
        if pressed is None:
            return
        x, y = interactor.GetEventPosition()
        if max(abs(x - pressed[0]), abs(y - pressed[1])) <= STEADY_PIXELS:
            self._registered((x, y), bool(interactor.GetControlKey()))
