"""What the command line shows of a segmentation: a line while it grows, and a summary at its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from CTSAM3DLib.errors import Cancelled
from CTSAM3DLib.segmentation.canvas import MASK
from CTSAM3DLib.segmentation.result import Result


@contextmanager
def progress() -> Iterator[tuple[Callable[[Result], None], threading.Event]]:
    """A line on stderr that shows partial results, and an event that Ctrl-C sets; a second Ctrl-C ends at once.

    Raises Cancelled at its end if Ctrl-C came too late for anyone to look at the event.
    """
    cancel = threading.Event()

    def on_interrupt(*_: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, before)

    def show(result: Result) -> None:
        voxels = sum(int((tile >= MASK).sum()) for tile in result.canvas.tiles.values())
        patches = "1 patch" if len(result.patches) == 1 else f"{len(result.patches)} patches"
        status.update(f"{patches}, {voxels * result.grid.spacing**3 / 1000:.1f} mL")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with Console(stderr=True).status("looking at the clicked patch") as status:
            yield show, cancel
    finally:
        signal.signal(signal.SIGINT, before)
    if cancel.is_set():
        raise Cancelled("The segmentation was cancelled.")


def summary(report: dict[str, Any], spacing: tuple[float, float, float]) -> Table:
    """The command's JSON report as a table; `spacing` is the CT's, x, y, z in mm."""
    table = Table.grid(padding=(0, 2))
    table.add_row("mask", f"{report['output']} ({report['name']})")
    table.add_row("volume", f"{report['volume_ml']:.1f} mL, {report['voxels']} voxels")
    if report["box"] is None:
        table.add_row("box", "the mask is empty; try another click")
    else:
        ends = list(zip(report["box"]["first"], report["box"]["last"], strict=True))
        voxels = ", ".join(f"{axis} {first} to {last}" for axis, (first, last) in zip("ijk", ends, strict=True))
        size = " x ".join(f"{(last - first + 1) * mm:.0f}" for (first, last), mm in zip(ends, spacing, strict=True))
        table.add_row("box", f"{voxels} ({size} mm)")
    table.add_row("patches", f"{report['patches']}, reach {report['reach']}")
    table.add_row("quality", f"{report['quality']:.2f}, the model's own guess at the Dice in the last clicked patch")
    low, high = report["model"]["window"]
    model = f"{report['model']['name']} {report['model']['hash'][:12]}, HU {low:g} to {high:g}, on {report['device']}"
    table.add_row("model", model)
    times = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in report["seconds"].items()]
    table.add_row("seconds", ", ".join(times))
    return table
