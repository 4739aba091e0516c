"""Which mouse events in a view are clicks on a structure, and where they are.

In a slice view a left press acts at once. In a 3D view a left drag turns the scene, so that only a press and a
release at the same place is a click, and only on the surface of a segment. Everything else is left to the views:
Shift (crosshair), Alt, the other buttons, the wheel, and a press on a point, which is the start of a drag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import vtk

from CTSAM3DLib.interaction.controls import INWARDS_MM, STEADY_PIXELS

Position = tuple[float, float, float]

PICK_TOLERANCE = 0.002
"""Part of the window's diagonal within which a surface is hit."""

_PRESS = vtk.vtkCommand.LeftButtonPressEvent
_RELEASE = vtk.vtkCommand.LeftButtonReleaseEvent
_DOUBLE_CLICK = vtk.vtkCommand.LeftButtonDoubleClickEvent


@dataclass(frozen=True)
class ViewClick:
    """A click on a structure."""

    world: Position
    """World RAS, mm."""
    turned: bool
    """Ctrl (Cmd on a Mac) was held: the click means the opposite of the chosen sign."""


class ViewClicks:
    """Turns events of views into clicks. `xyToRas(xy, sliceWidget)` is the effect's."""

    def __init__(self, scriptedEffect, xyToRas: Callable[[Sequence[int], object], Sequence[float]]) -> None:
        self._scriptedEffect = scriptedEffect
        self._xyToRas = xyToRas
        self._pressedAt: tuple[object, tuple[int, int]] | None = None

    def process(self, interactor, eventId: int, viewWidget) -> tuple[ViewClick | None, bool]:
        """The click that this event is, if any, and whether the views must not see the event."""
        if interactor.GetShiftKey() or interactor.GetAltKey():
            return None, False
        if viewWidget.className() == "qMRMLSliceWidget":
            return self._inSlice(interactor, eventId, viewWidget)
        if viewWidget.className() == "qMRMLThreeDWidget":
            return self._in3D(interactor, eventId, viewWidget), False
        return None, False

    def _inSlice(self, interactor, eventId: int, viewWidget) -> tuple[ViewClick | None, bool]:
        if eventId == _DOUBLE_CLICK:
            return None, True  # two quick clicks must not maximize the view
        if eventId != _PRESS:
            return None, False
        r, a, s = self._xyToRas(interactor.GetEventPosition(), viewWidget)
        return ViewClick((r, a, s), bool(interactor.GetControlKey())), True

    def _in3D(self, interactor, eventId: int, viewWidget) -> ViewClick | None:
        x, y = interactor.GetEventPosition()
        if eventId == _PRESS:
            self._pressedAt = (viewWidget, (x, y))
        if eventId != _RELEASE or self._pressedAt is None:
            return None
        pressedIn, (pressedX, pressedY) = self._pressedAt
        self._pressedAt = None
        moved = max(abs(x - pressedX), abs(y - pressedY))
        if pressedIn is not viewWidget or moved > STEADY_PIXELS:
            return None
        world = self._onSurface(x, y, viewWidget)
        return None if world is None else ViewClick(world, bool(interactor.GetControlKey()))

    def _onSurface(self, x: int, y: int, viewWidget) -> Position | None:
        """Where the line of sight meets a segment of the edited segmentation, a little inside; world RAS."""
        renderer = self._scriptedEffect.renderer(viewWidget)
        picker = vtk.vtkCellPicker()
        picker.SetTolerance(PICK_TOLERANCE)
        if not picker.Pick(x, y, 0, renderer) or not self._isOwnSegment(picker.GetPickPosition(), viewWidget):
            return None
        sight = list(renderer.GetActiveCamera().GetDirectionOfProjection())
        r, a, s = (p + INWARDS_MM * d for p, d in zip(picker.GetPickPosition(), sight, strict=True))
        return r, a, s

    def _isOwnSegment(self, world: Position, viewWidget) -> bool:
        """Whether the surface there is a segment's, rather than a model's or another segmentation's."""
        manager = viewWidget.threeDView().displayableManagerByClassName("vtkMRMLSegmentationsDisplayableManager3D")
        parameterSetNode = self._scriptedEffect.parameterSetNode()
        if manager is None or parameterSetNode is None or parameterSetNode.GetSegmentationNode() is None:
            return False
        manager.Pick3D(world)
        display = self._scriptedEffect.scene().GetNodeByID(manager.GetPickedNodeID() or "")
        ours = parameterSetNode.GetSegmentationNode()
        return display is not None and (display is ours or ours.HasDisplayNodeID(display.GetID()))
