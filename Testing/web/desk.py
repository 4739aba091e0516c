"""A person at the page: what is on it, and what hands do. Nothing here looks behind the page."""

from __future__ import annotations

import re

import numpy as np
from playwright.sync_api import Page, expect

PATCHES_S = 60.0
_AXES = {"Axial": (0, 1, 2), "Coronal": (0, 2, 1), "Sagittal": (1, 2, 0)}
"""Which of L, P, S run along a view's width, along its height, and through it."""
_POINTER = re.compile(r"([LR]) ([\d.]+)\s+([PA]) ([\d.]+)\s+([SI]) ([\d.]+) mm\s+(-?\d+) HU")


class Desk:
    """A page of a workspace in a real browser."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self._scales: dict[str, tuple] = {}
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    # Looking

    @property
    def status(self) -> str:
        return self.page.locator(".ctsam3d-status span").first.inner_text()

    @property
    def problem(self) -> str:
        return self.page.locator(".ctsam3d-problem span").first.inner_text()

    def segments(self) -> list[tuple[str, float]]:
        """Name and mL of each segment, all read at one moment: a row that goes meanwhile is no longer there to ask."""
        rows = self.page.locator(".ctsam3d-segment").evaluate_all(
            "rows => rows.map(row => "
            "[row.querySelector('input[type=text]').value, row.querySelector(':scope > span').innerText])"
        )
        return [(name, float(ml.split()[0])) for name, ml in rows]

    def clicks(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".ctsam3d-clicks .v-chip").all_inner_texts()]

    def view(self, name: str) -> dict[str, float]:
        """Where a view is on the page."""
        label = self.page.locator(f".ctsam3d-name.ctsam3d-{name.lower()}")
        return label.locator("xpath=ancestor::div[contains(@style, 'position')][1]").bounding_box()

    def pointer(self) -> tuple[np.ndarray, int] | None:
        """LPS under the mouse and the HU there."""
        found = _POINTER.search(self.page.locator(".ctsam3d-pointer").inner_text())
        if found is None:
            return None
        mm = [float(found[n + 1]) * (1 if found[n] in "LPS" else -1) for n in (1, 3, 5)]
        return np.array(mm), int(found[7])

    def picture(self, name: str) -> bytes:
        return self.page.screenshot(clip=self.view(name))

    def steady_picture(self, name: str, other_than: bytes | None = None) -> bytes:
        """A view once it shows something else than before, and keeps it."""
        seen = [b"", self.picture(name)]

        def is_steady() -> bool:
            seen[:] = seen[1], self.picture(name)
            return seen[0] == seen[1] != other_than

        self.until(is_steady, timeout=20)
        return seen[1]

    # Doing

    def add_segment(self) -> None:
        number = len(self.segments()) + 1
        self.page.get_by_role("button", name="Add", exact=True).click()
        expect(self.page.locator(".ctsam3d-segment")).to_have_count(number)

    def wait_for_ct(self, timeout: float = 90) -> None:
        expect(self.page.locator(".ctsam3d-segment").first).to_be_visible(timeout=1000 * timeout)
        expect(self.page.locator(".ctsam3d-busy")).to_have_count(0, timeout=1000 * timeout)

    def settle(self, timeout: float = PATCHES_S) -> None:
        """Wait until no mask is on its way."""
        self.page.wait_for_timeout(250)
        self.page.wait_for_function("() => !window.trame.state.get('predicting')", timeout=1000 * timeout)
        expect(self.page.locator(".ctsam3d-status")).not_to_contain_text("Segmenting", timeout=1000 * timeout)

    def until(self, condition, timeout: float = PATCHES_S) -> None:
        """Wait until something is so."""
        for _ in range(int(10 * timeout)):
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("what was waited for did not come")

    def go_to(self, view: str, lps: tuple[float, float, float]) -> None:
        """Let a view show the slice through a position: Shift and the mouse in another view take it there."""
        x, y = self.place("Coronal" if view != "Coronal" else "Axial", lps)
        self.page.keyboard.down("Shift")
        self.page.mouse.move(x - 3, y)
        self.page.mouse.move(x, y)
        self.page.wait_for_timeout(100)
        self.page.keyboard.up("Shift")

    def hover_somewhere(self, view: str) -> tuple[np.ndarray, int]:
        box = self.view(view)
        return self._read(box, 0.5, 0.5)

    def place(self, view: str, lps: tuple[float, float, float]) -> tuple[float, float]:
        """The pixel of a position in the view, told from what the page says of three places when first asked."""
        if view not in self._scales:
            box = self.view(view)
            across, along, _ = _AXES[view]
            (a, _hu), (b, _hu) = self._read(box, 0.4, 0.4), self._read(box, 0.6, 0.6)
            per_mm = 0.2 / (b[across] - a[across]), 0.2 / (b[along] - a[along])
            self._scales[view] = box, (a[across], a[along]), per_mm
        box, origin, per_mm = self._scales[view]
        across, along, _ = _AXES[view]
        x = 0.4 + per_mm[0] * (lps[across] - origin[0])
        y = 0.4 + per_mm[1] * (lps[along] - origin[1])
        assert 0.02 < x < 0.98, "the place is not in the view"
        assert 0.02 < y < 0.98, "the place is not in the view"
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def look_anew(self) -> None:
        """Something has changed where things are in the views."""
        self._scales.clear()

    def click(self, lps, view: str = "Axial", button: str = "left", control: bool = False) -> None:
        """Click at a position, in the slice that it lies in."""
        self.go_to(view, lps)
        x, y = self.place(view, lps)
        if control:
            self.page.keyboard.down("Control")
        self.page.mouse.move(x, y)
        before = self.clicks()
        self.page.mouse.click(x, y, button=button)
        if control:
            self.page.keyboard.up("Control")
        expect(self.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(len(before) + 1, timeout=10_000)

    def _read(self, box, x: float, y: float) -> tuple[np.ndarray, int]:
        """What the page says of a place, once it says it of this one."""
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        self.page.mouse.move(at[0] + 20, at[1] + 20)
        self._until_pointer_is_not(None, (at[0] + 20, at[1] + 20))
        before = self.pointer()
        self.page.mouse.move(*at)
        return self._until_pointer_is_not(before, at)

    def _until_pointer_is_not(self, before, at: tuple[float, float]) -> tuple[np.ndarray, int]:
        last, seen = None, 0
        for turn in range(400):
            self.page.wait_for_timeout(60)
            if turn % 20 == 19:  # a move may have been lost on something that lay over the view
                self.page.mouse.move(at[0] + 1, at[1])
                self.page.mouse.move(*at)
            now = self.pointer()
            same = last is not None and now is not None and np.array_equal(last[0], now[0])
            if same and (before is None or not np.array_equal(now[0], before[0])):
                seen += 1
                if seen == 3:  # the page may be a little behind the mouse
                    return now
            else:
                seen = 0
            last = now
        raise AssertionError("the page does not say what is under the mouse")
