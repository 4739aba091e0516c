"""Lists of clicks that the user took back, for redo."""

from __future__ import annotations

from collections.abc import Sequence

from CTSAM3DLib.clicks.click import Click

SegmentKey = tuple[str, str]
"""ID of the segmentation node, ID of the segment."""


class TakenBackClicks:
    """For each segment the lists that were taken back, the latest last. They live as long as the scene is open."""

    def __init__(self) -> None:
        self._lists: dict[SegmentKey, list[list[Click]]] = {}

    def push(self, key: SegmentKey, clicks: Sequence[Click]) -> None:
        """Keep a list that the user goes back from."""
        self._lists.setdefault(key, []).append(list(clicks))

    def pop(self, key: SegmentKey) -> list[Click]:
        """The list that was taken back last. Raises KeyError where there is none."""
        lists = self._lists[key]
        clicks = lists.pop()
        if not lists:
            del self._lists[key]
        return clicks

    def __contains__(self, key: SegmentKey) -> bool:
        return key in self._lists

    def forget(self, key: SegmentKey) -> None:
        """The user went another way from here."""
        self._lists.pop(key, None)

    def clear(self) -> None:
        """Forget everything, as when the scene closes."""
        self._lists.clear()
