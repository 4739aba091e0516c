"""The library's click editor on the selected segment of a page, and what the views show of it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import suppress

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.interaction.backends import BackendChoice
from CTSAM3DLib.interaction.click_editor import ClickEditor
from CTSAM3DLib.mrml.clicked_segments import SceneSegments
from CTSAM3DLib.mrml.frames import to_local
from CTSAM3DLib.mrml.overlay import SHOWN_MS, Overlay
from CTSAM3DLib.mrml.points import PointsNode
from CTSAM3DLib.mrml.prediction_driver import Outcome
from CTSAM3DLib.mrml.predictor import Failed, Growing, Target, Written
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DLib.segmentation.result import Result
from CTSAM3DServer.web.scene.mouse_effect import ClickEffect, Position
from CTSAM3DServer.web.scene.scene import Scene
from CTSAM3DServer.web.workspace.messages import Messages
from CTSAM3DServer.web.workspace.predictions import Predictions
from CTSAM3DServer.web.workspace.segments import Segments

Choose = Callable[[], tuple[BackendChoice, Reach]]
Editor = ClickEditor[Target, tuple[BackendChoice, Reach]]


class Clicking:
    """The clicks of whatever segment is selected.

    `choose` gives the backend and the reach; it raises CTSAM3DError where the user has not agreed to the backend.
    `changed` is called after everything that changed a segment, or may have.
    """

    def __init__(self, scene: Scene, messages: Messages, choose: Choose, changed: Callable[[], None]) -> None:
        self._messages = messages
        self._choose = choose
        self._changed = changed
        self._segments: Segments | None = None
        self._shown: tuple[str, list[Click]] | None = None
        self._points = PointsNode(scene.mrml)
        self._overlay = Overlay(scene.mrml)
        self._overlay_ends: asyncio.TimerHandle | None = None
        self._predictions = Predictions(self._on_outcome, changed)
        self._clicked = SceneSegments(self._predictions)
        self._editor: Editor = ClickEditor(self._clicked, choose, self._predict)
        self._effect: ClickEffect = scene.editor.get_effect(ClickEffect)
        self._effect.point_under_mouse = self._points.under_mouse
        self._effect.clicked.connect(self._on_click)
        self._effect.removed.connect(self.remove)
        self.swapped = False
        """Whether a click in a view means the opposite of what it mostly means."""

    def begin(self, segments: Segments) -> None:
        """Take clicks for these segments, of a CT that was just opened, and forget all about others."""
        self._predictions.forget()
        self._overlay.clear()
        self._points.hide()
        self._shown = None
        self._segments = segments
        self._editor = ClickEditor(self._clicked, self._choose, self._predict, segments)
        segments.editor.set_active_effect(self._effect)
        target = segments.target()
        if target is not None:
            with suppress(CTSAM3DError):  # which the first click tells, too
                self._predictions.prepare(self._choose()[0], target, segments.writer)

    # What there is

    def busy(self) -> bool:
        """Whether a mask is on its way."""
        return self._predictions.busy()

    def clicks(self) -> list[Click]:
        """The clicks of the selected segment, LPS. Raises ClickError where their tag was written by something else."""
        target = self._target()
        return [] if target is None else self._clicked.clicks(target)

    def waits(self) -> bool:
        """Whether the selected segment has clicks whose mask is not on its way. Raises ClickError."""
        target = self._target()
        return target is not None and not self.busy() and self._clicked.is_pending(target)

    def can_undo(self) -> bool:
        """Whether there is a step to go back. Raises ClickError."""
        target = self._last_target()
        return target is not None and self._editor.can_undo(target)

    def can_redo(self) -> bool:
        """Whether there is a step to take anew. Raises ClickError."""
        return any(self._editor.can_redo(target) for target in self._targets_of_redo())

    # What the user does

    def add(self, world: Position, positive: bool) -> None:
        """A click at a place in world RAS."""

        def add(target: Target) -> None:
            self._editor.add(target, Click(to_local(world, target.segmentation_node), positive))

        self._edit(add)

    def remove(self, number: int) -> None:
        """Take one click away; the first is number 0."""
        self._edit(lambda target: self._editor.remove(target, number))

    def clear(self) -> None:
        """Take all clicks away."""
        self._edit(self._editor.clear)

    def try_again(self) -> None:
        """Ask once more for the mask of clicks that have none."""
        self._edit(self._editor.try_again)

    def cancel(self) -> None:
        """Stop; every segment keeps its mask and the clicks of that mask. Redo brings the others back."""
        if self.busy():
            self._editor.cancel(self._predictions.targets())
            self._say_cancelled()
            self._changed()

    def undo(self) -> None:
        """Go one step back; a mask that is on its way is the last step."""
        target = self._last_target()
        if target is not None:
            self._step(self._editor.undo, target)

    def redo(self) -> None:
        """Take an undo, or a cancel, back."""
        for target in self._targets_of_redo():
            self._step(self._editor.redo, target)

    def ask_waiting(self) -> None:
        """Ask for the masks of all clicks that wait for them, as when a workspace comes back."""
        for target in [] if self._segments is None else self._segments.waiting():
            self.do(functools.partial(self._editor.try_again, target))

    def do(self, action: Callable[[], object]) -> None:
        """Do something to the segments; what is wrong with it is told on the page."""
        try:
            action()
        except CTSAM3DError as error:
            self._messages.problem(str(error))
        self._changed()

    def show(self) -> None:
        """Bring the points in the views in line with the selected segment. Raises ClickError."""
        target = self._target()
        if target is None:
            self._points.hide()
            self._shown = None
            return
        clicks = self.clicks()
        if (target.segment_id, clicks) == self._shown and self._points.is_there():
            return
        if self._points.ensure():
            node = self._points.node
            node.AddObserver(node.PointEndInteractionEvent, self._on_dragged)
        self._points.show(clicks, target.segmentation_node)
        self._shown = target.segment_id, clicks

    def _target(self) -> Target | None:
        return None if self._segments is None else self._segments.target()

    def _last_target(self) -> Target | None:
        """The segment of the last step: the last one whose mask is on its way, else the selected one."""
        on_their_way = [target for target in self._predictions.targets() if self._clicked.is_there(target)]
        return on_their_way[-1] if on_their_way else self._target()

    def _targets_of_redo(self) -> list[Target]:
        selected = self._target()
        return self._editor.last_taken_back() or ([] if selected is None else [selected])

    def _step(self, step: Callable[[Target], bool], target: Target) -> None:
        """Undo or redo something of a segment; where it only drops what was on its way, that is said."""

        def do() -> None:
            if step(target) and not self.busy():
                self._say_cancelled()

        self.do(do)

    def _edit(self, edit: Callable[[Target], object]) -> None:
        target = self._target()
        if target is not None:
            self.do(lambda: edit(target))

    def _predict(self, chosen: tuple[BackendChoice, Reach], target: Target, clicks: list[Click]) -> None:
        if self._segments is not None:
            self._messages.say("Segmenting…")
            backend, reach = chosen
            self._predictions.predict(backend, target, clicks, self._segments.writer, reach)

    def _say_cancelled(self) -> None:
        self._overlay.clear()
        self._messages.say("Cancelled. Redo brings the click back.")

    # What happens

    def _on_click(self, world: Position, positive: bool) -> None:
        self.add(world, positive != self.swapped)

    def _on_dragged(self, *_: object) -> None:
        # Markups must not be changed inside their own events.
        asyncio.get_running_loop().call_soon(self._take_dragged)

    def _take_dragged(self) -> None:
        if self._points.shows_clicks():
            self._edit(lambda target: self._editor.replace(target, self._points.clicks()))

    def _on_outcome(self, outcome: Outcome) -> None:
        segment = outcome.target.segment()
        self._end_overlay()
        if isinstance(outcome, Growing) and segment is not None:
            self._overlay.show_growing(outcome.labelmap, outcome.target.segmentation_node, segment.GetColor())
            self._messages.say(f"Segmenting… {_patches(outcome.result)} so far.")
        elif isinstance(outcome, Failed):
            self._overlay.clear()
            if not self.busy():
                self._messages.say("The click made no mask.")
            self._messages.problem(str(outcome.error))
        elif isinstance(outcome, Written):
            self._on_written(outcome)
        self._changed()

    def _on_written(self, written: Written) -> None:
        change, result = written.change, written.result
        made = f" {_patches(result)}, {result.model.name}." if result is not None else ""
        self._messages.say(f"{change.added_ml:.1f} mL added, {change.removed_ml:.1f} mL removed.{made}")
        if self._segments is not None:
            reference = self._segments.writer.reference_image()
            self._overlay.show_change(change, reference, written.target.segmentation_node)
            loop = asyncio.get_running_loop()
            self._overlay_ends = loop.call_later(SHOWN_MS / 1000, self._overlay.clear)

    def _end_overlay(self) -> None:
        if self._overlay_ends is not None:
            self._overlay_ends.cancel()


def _patches(result: Result) -> str:
    count = len(result.patches)
    return "1 patch" if count == 1 else f"{count} patches"
