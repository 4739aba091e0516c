"""How long a person at the page waits: from a click in the browser to the first pixel of its mask, and to all of it.

    python -m Testing.benchmarks.web_clicks [--clicks 3]

Everything is real: Chromium, the door, the page's process, the network's, on the sample CT with the bundled model. A
mask is seen when pixels around the click, off the click's own point, have changed in the picture that the browser
shows; it is whole when the page says so and the picture has come to rest.
"""

from __future__ import annotations

import argparse
import math
import statistics

from rich.console import Console
from rich.table import Table

from CTSAM3DLib.phantom.torso import torso
from Testing.support.web_sample import desk_with, from_the_middle, position

FIRST_S, WHOLE_S = 0.5, 3.0
STRUCTURES = ("liver", "kidney_left", "spleen", "aorta", "vertebrae_L1")

WATCH = """
(at) => {
  const canvas = document.createElement("canvas");
  const look = () => {
    // The page shows pictures in turn in several elements.
    const image = document.elementsFromPoint(at.x, at.y).find((element) => element.tagName === "IMG");
    const box = image.getBoundingClientRect();
    [canvas.width, canvas.height] = [box.width, box.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, box.width, box.height);
    return context.getImageData(at.x - box.left - 20, at.y - box.top - 20, 41, 41).data;
  };
  const changed = (a, b) => {
    let count = 0;
    for (let y = -20; y <= 20; y++)
      for (let x = -20; x <= 20; x++) {
        if (x * x + y * y < 64) continue; // the point itself
        const n = 4 * ((y + 20) * 41 + x + 20);
        if (Math.abs(a[n] - b[n]) + Math.abs(a[n + 1] - b[n + 1]) + Math.abs(a[n + 2] - b[n + 2]) > 45) count++;
      }
    return count;
  };
  const before = look();
  const clicks = () => window.trame.state.get("clicks").length, clicksBefore = clicks();
  let last = before, begun = 0, first = 0, moved = 0, ended = 0;
  window.seen = new Promise((tell) => {
    const begin = () => (begun = moved = performance.now());
    window.addEventListener("pointerdown", begin, { capture: true, once: true });
    const step = () => {
      const now = look(), time = performance.now();
      if (begun && changed(now, last) > 0) moved = time;
      if (begun && !first && changed(now, before) > 25) first = time;
      last = now;
      // A click is on its way from when it is counted until nothing is predicted any more.
      const done = clicks() > clicksBefore && !window.trame.state.get("predicting");
      if (!done) ended = time;
      const rest = Math.max(moved, ended);
      if (begun && done && time - rest > 700) tell([first ? (first - begun) / 1000 : NaN, (rest - begun) / 1000]);
      else if (begun && time - begun > 60000) tell([NaN, NaN]);
      else requestAnimationFrame(step);
    };
    step();
  });
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=3, help="clicks at each structure")
    clicks = parser.parse_args().clicks
    phantom = torso()
    with desk_with(phantom) as desk:
        rows = [row for name in STRUCTURES for row in waits(desk, phantom, name, clicks)]
    show(rows)


def waits(desk, phantom, name: str, clicks: int):
    """Structure, number of the click, and seconds to the first and to the last pixel of its mask."""
    near = from_the_middle(phantom, name)
    desk.page.keyboard.press("a")
    desk.page.wait_for_timeout(500)
    for number in range(clicks):
        # Later clicks a little beside the first, where the mask changes least: the wait is the same.
        lps = position(phantom, near[number * len(near) // 20])
        desk.go_to("Axial", lps)
        desk.page.wait_for_timeout(1500)
        x, y = desk.place("Axial", lps)
        desk.page.mouse.move(x, y)
        desk.page.wait_for_timeout(300)
        desk.page.evaluate(WATCH, {"x": x, "y": y})
        desk.page.mouse.click(x, y)
        first, whole = desk.page.evaluate("() => window.seen")
        yield name, number + 1, first, whole


def show(rows) -> None:
    table = Table("structure", "click", "first pixel s", "whole mask s")
    for name, number, first, whole in rows:
        table.add_row(name, str(number), "unchanged" if math.isnan(first) else f"{first:.2f}", f"{whole:.2f}")
    firsts = [first for _, number, first, _ in rows if number == 1 and not math.isnan(first)]
    wholes = [whole for _, number, _, whole in rows if number == 1]
    table.add_section()
    table.add_row("first clicks, median", "", f"{statistics.median(firsts):.2f}", f"{statistics.median(wholes):.2f}")
    table.add_row("first clicks, longest", "", f"{max(firsts):.2f}", f"{max(wholes):.2f}")
    table.add_row("mark", "", f"{FIRST_S}", f"{WHOLE_S}")
    Console().print(table)


if __name__ == "__main__":
    main()
