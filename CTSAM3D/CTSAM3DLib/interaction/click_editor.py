"""What a user does to the clicks of a segment: add, move, delete, clear, try again, cancel, undo and redo.

Every edit is another list of clicks, and the list is sent for its mask; the segment gets both together. Until then, and
where that fails, the list is *pending*. The front ends of 3D Slicer and of the browser are shells around this editor,
which knows neither of them: `ClickedSegments` says what it needs of the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ClickError, CTSAM3DError

SegmentT = TypeVar("SegmentT", bound=Hashable)
SegmentT_contra = TypeVar("SegmentT_contra", bound=Hashable, contravariant=True)
ChoiceT = TypeVar("ChoiceT")


class ClickedSegments(Protocol[SegmentT_contra]):
    """Where the clicks of segments are kept. Reading them raises ClickError where something else wrote them."""

    def is_there(self, segment: SegmentT_contra, /) -> bool:
        """Whether the segment still exists."""

    def clicks(self, segment: SegmentT_contra, /) -> list[Click]:
        """The list that the user sees, LPS: the pending one, else that of the mask."""

    def mask_clicks(self, segment: SegmentT_contra, /) -> list[Click]:
        """The list that the mask was made of."""

    def is_pending(self, segment: SegmentT_contra, /) -> bool:
        """Whether the list that the user sees has no mask yet."""

    def keep(self, segment: SegmentT_contra, clicks: Sequence[Click], /) -> None:
        """Let this list be pending."""

    def drop(self, segment: SegmentT_contra, /) -> None:
        """Forget the pending list, and stop what was asked for it; the mask is as it was. The segment may be gone."""


class History(Protocol):
    """The segmentation's own history of steps, where the front end has one to walk: masks and clicks come back at once,
    exactly as they were, and so do names and colours."""

    def can_undo(self) -> bool:
        """Whether there is a step to go back."""

    def can_redo(self) -> bool:
        """Whether there is a step to take anew."""

    def undo(self) -> None:
        """Go one step back."""

    def redo(self) -> None:
        """Take one step anew."""


@dataclass(frozen=True)
class _Step:
    """From one list of a segment's clicks to the next. Steps with one number were taken together."""

    before: tuple[Click, ...]
    after: tuple[Click, ...]
    number: int


class ClickEditor(Generic[SegmentT, ChoiceT]):
    """Edits the clicks of segments; everything that asks for a mask raises CTSAM3DError with a sentence for the user.

    `choose()` gives the backend, or raises where the user has not agreed to it or it is not installed; `predict` asks
    it for the mask of a list. A list that cannot be sent stays pending.

    *Undo* takes one edit back: the segment gets the list before it. Where its mask is still that list's, what was asked
    since is dropped and nothing is computed; a step whose mask is there is left to the `history`, if the front end has
    one, and else the earlier list is sent for its mask. Where the edits are not known, as after a scene was loaded, the
    last click is taken away. *Redo* goes the same way forward, also after a cancel. Steps hold only where the segment's
    list is the one that they lead from, whatever else has changed the segment in between.
    """

    def __init__(
        self,
        segments: ClickedSegments[SegmentT],
        choose: Callable[[], ChoiceT],
        predict: Callable[[ChoiceT, SegmentT, list[Click]], None],
        history: History | None = None,
    ) -> None:
        self._segments = segments
        self._choose = choose
        self._predict = predict
        self._history = history
        self._done: dict[SegmentT, list[_Step]] = {}
        self._taken_back: dict[SegmentT, list[_Step]] = {}
        self._number = 0

    # What can be done

    def can_undo(self, segment: SegmentT) -> bool:
        """Whether there is a step to go back. Raises ClickError."""
        if self._is_in_history(segment):
            return self._history is not None and self._history.can_undo()
        return self._before(segment) is not None

    def can_redo(self, segment: SegmentT) -> bool:
        """Whether there is a step to take anew. Raises ClickError."""
        of_history = self._history is not None and self._history.can_redo()
        return self._next_step(segment) is not None or of_history

    def last_taken_back(self) -> list[SegmentT]:
        """The segments that were taken back last, several after a cancel, and can be redone. Raises ClickError."""
        steps = [
            (segment, self._next_step(segment)) for segment in self._taken_back if self._segments.is_there(segment)
        ]
        number = max((step.number for _, step in steps if step is not None), default=None)
        return [segment for segment, step in steps if step is not None and step.number == number]

    # What the user does

    def add(self, segment: SegmentT, click: Click) -> None:
        """One more click, LPS."""
        self.replace(segment, [*self._segments.clicks(segment), click])

    def remove(self, segment: SegmentT, number: int) -> None:
        """Take one click away; the first is number 0."""
        self.replace(segment, [click for n, click in enumerate(self._segments.clicks(segment)) if n != number])

    def clear(self, segment: SegmentT) -> None:
        """Take all clicks away."""
        if self._segments.clicks(segment):
            self.replace(segment, [])

    def replace(self, segment: SegmentT, clicks: Sequence[Click]) -> None:
        """Another list, as after a drag."""
        before = self._segments.clicks(segment)
        try:
            self._ask(segment, clicks)
        finally:
            if self._has(segment, clicks) and list(clicks) != before:
                self._done.setdefault(segment, []).append(self._step(before, clicks))
                self._taken_back.pop(segment, None)

    def try_again(self, segment: SegmentT) -> None:
        """Ask once more for the mask of clicks that have none."""
        if self._segments.is_pending(segment):
            self._ask(segment, self._segments.clicks(segment))

    def undo(self, segment: SegmentT) -> bool:
        """Take the last edit back; whether that was only to drop what was on its way."""
        if self._history is not None and self._is_in_history(segment):
            self._history.undo()
            return False
        before = self._before(segment)
        return before is not None and self._go(segment, before, self._taken_back, self._done)

    def redo(self, segment: SegmentT) -> bool:
        """Take the edit anew that was taken back last; whether that was only to drop what was on its way."""
        step = self._next_step(segment)
        if step is not None:
            return self._go(segment, list(step.after), self._done, self._taken_back)
        if self._history is not None:
            self._history.redo()
        return False

    def cancel(self, segments: Sequence[SegmentT]) -> None:
        """Drop what was asked for these segments: each keeps its mask and that mask's clicks. Redo brings them back."""
        self._number += 1
        for segment in segments:
            if self._segments.is_there(segment):
                seen, of_mask = self._segments.clicks(segment), self._segments.mask_clicks(segment)
                if seen != of_mask:
                    step = _Step(tuple(of_mask), tuple(seen), self._number)
                    self._taken_back.setdefault(segment, []).append(step)
            self._segments.drop(segment)

    def forget(self) -> None:
        """Nothing can be taken back or anew any more, as when the scene closes."""
        self._done.clear()
        self._taken_back.clear()

    # How it is done

    def _ask(self, segment: SegmentT, clicks: Sequence[Click]) -> None:
        if clicks and not _any_positive(clicks) and not _any_positive(self._segments.mask_clicks(segment)):
            # An answer would empty the segment, which may have been painted by hand.
            self._segments.keep(segment, clicks)
            raise ClickError("So far all clicks are outside; click inside the structure, too.")
        try:
            choice = self._choose()
        except CTSAM3DError:
            self._segments.keep(segment, clicks)  # until the user agrees or chooses another backend
            raise
        self._predict(choice, segment, list(clicks))

    def _go(
        self,
        segment: SegmentT,
        clicks: list[Click],
        ahead: dict[SegmentT, list[_Step]],
        behind: dict[SegmentT, list[_Step]],
    ) -> bool:
        """Give the segment another list of its steps: the way back is put `ahead`, and the step `behind` is used up."""
        seen = self._segments.clicks(segment)
        dropped = self._segments.is_pending(segment) and clicks == self._segments.mask_clicks(segment)
        try:
            if dropped:
                self._segments.drop(segment)
            else:
                self._ask(segment, clicks)
        finally:
            if self._has(segment, clicks):
                used = behind.get(segment)
                if used:
                    used.pop()
                back = self._step(clicks, seen) if ahead is self._taken_back else self._step(seen, clicks)
                ahead.setdefault(segment, []).append(back)
        return dropped

    def _is_in_history(self, segment: SegmentT) -> bool:
        """Whether the last step of this segment is one of the history."""
        return self._history is not None and not self._segments.is_pending(segment)

    def _before(self, segment: SegmentT) -> list[Click] | None:
        """The list before the last edit; None where there is nothing to take back."""
        seen = self._segments.clicks(segment)
        steps = self._done.get(segment, [])
        while steps and list(steps[-1].after) != seen:
            steps.pop()  # something else has changed the segment since
        if steps:
            return list(steps[-1].before)
        if seen:
            return seen[:-1]
        return self._segments.mask_clicks(segment) if self._segments.is_pending(segment) else None

    def _next_step(self, segment: SegmentT) -> _Step | None:
        steps = self._taken_back.get(segment)
        return steps[-1] if steps and list(steps[-1].before) == self._segments.clicks(segment) else None

    def _has(self, segment: SegmentT, clicks: Sequence[Click]) -> bool:
        return self._segments.is_there(segment) and self._segments.clicks(segment) == list(clicks)

    def _step(self, before: Sequence[Click], after: Sequence[Click]) -> _Step:
        self._number += 1
        return _Step(tuple(before), tuple(after), self._number)


def _any_positive(clicks: Sequence[Click]) -> bool:
    return any(click.positive for click in clicks)
