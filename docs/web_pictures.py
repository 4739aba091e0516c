"""The pictures of the page in the README: python -m docs.web_pictures

A real browser at a real page with the sample CT, as a person works: a click, a mask, a click outside, another segment.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from CTSAM3DLib.phantom.torso import TorsoPhantom, torso
from Testing.support.web_sample import desk_with, middle
from Testing.web.desk import Desk

IMAGES = Path(__file__).with_name("images")
GIF_SIZE = (960, 540)
CURSOR = """
() => {
  const cursor = document.createElement("div");
  cursor.style.cssText = "position:fixed;z-index:9999;width:14px;height:14px;border-radius:50%;border:2px solid #fff;"
    + "box-shadow:0 0 3px #000;pointer-events:none;transform:translate(-50%,-50%);transition:background 0.1s";
  document.body.append(cursor);
  window.addEventListener("pointermove", (event) => {
    cursor.style.left = `${event.clientX}px`;
    cursor.style.top = `${event.clientY}px`;
  }, true);
  window.addEventListener("pointerdown", (event) => (cursor.style.background = event.ctrlKey ? "#f43" : "#3d4"), true);
  window.addEventListener("pointerup", () => setTimeout(() => (cursor.style.background = ""), 250), true);
}
"""


class Film:
    """Pictures of the page with the times that they are shown."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[tuple[Image.Image, int]] = []

    def shot(self, milliseconds: int = 120) -> None:
        """Take a picture that will be shown so long."""
        picture = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        self._frames.append((picture.resize(GIF_SIZE, Image.Resampling.LANCZOS), milliseconds))

    def write(self, path: Path) -> None:
        """Write the animation, in the colours that all its pictures together need."""
        together = Image.new("RGB", (GIF_SIZE[0], GIF_SIZE[1] * len(self._frames)))
        for number, (picture, _) in enumerate(self._frames):
            together.paste(picture, (0, GIF_SIZE[1] * number))
        palette = together.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in self._frames]
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=[milliseconds for _, milliseconds in self._frames],
            loop=0,
            optimize=True,
        )


def main() -> None:
    """Take all pictures."""
    phantom = torso()
    with desk_with(phantom) as desk:
        film = Film(desk.page)
        work(desk, phantom, film)
        film.write(IMAGES / "web.gif")
        desk.page.mouse.move(40, 680)
        desk.page.wait_for_timeout(1500)
        desk.page.screenshot(path=IMAGES / "web.png")


def work(desk: Desk, phantom: TorsoPhantom, film: Film) -> None:
    """Segment three structures, the first of them with a click outside."""
    desk.page.evaluate(CURSOR)
    for number, name in enumerate(("Liver", "Spleen", "Kidney, left")):
        if number:
            desk.page.get_by_role("button", name="Add", exact=True).click()
            desk.page.wait_for_timeout(300)
        term = desk.page.get_by_label("Standard term")
        term.fill(name)
        desk.page.get_by_role("option", name=name, exact=True).click()
        desk.page.wait_for_timeout(300)
        structure = {"Liver": "liver", "Spleen": "spleen", "Kidney, left": "kidney_left"}[name]
        act(desk, film, middle(phantom, structure))
        if structure == "liver":
            for offset in ((-18.0, 45.0, 0.0), (70.0, -55.0, 0.0)):
                act(desk, film, tuple(np.add(middle(phantom, structure), offset)))


def act(desk: Desk, film: Film, lps: tuple[float, float, float]) -> None:
    """Go to a place, click, and film what comes of it."""
    desk.go_to("Axial", lps)
    desk.page.wait_for_timeout(400)
    x, y = desk.place("Axial", lps)
    for part in (0.5, 1.0):
        desk.page.mouse.move(x - 60 * (1 - part), y + 40 * (1 - part))
        film.shot(200)
    desk.page.mouse.down()
    film.shot(100)
    desk.page.mouse.up()
    for _ in range(4):
        desk.page.wait_for_timeout(200)
        film.shot(180)
    desk.settle()
    desk.page.wait_for_timeout(2200)  # what was added has been shown, and the surface is there
    film.shot(1100)


if __name__ == "__main__":
    main()
