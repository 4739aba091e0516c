"""From a click to the updated segment on a large CT, with the network taken off.

    python -m Testing.benchmarks.mrml_click [--json]

A stand-in for the network answers at once with a ball that fills the clicked patch. What is timed is all the rest of
an answer: the request, the way through the thread, the mask on the CT's grid, the undo state, the tags, and the write
by Slicer's own logic. The voxels of the CT do not matter for it; its size and spacing are those of chest-lidc-0314.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib.canvas import Canvas
from CTSAM3DLib.clicks import Click
from CTSAM3DLib.grid import PATCH, ModelGrid
from CTSAM3DLib.growth import Patch
from CTSAM3DLib.model_info import ModelInfo
from CTSAM3DLib.mrml.predictor import SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from CTSAM3DLib.prediction import PredictionWorker
from CTSAM3DLib.result import Result
from CTSAM3DLib.volume import Volume
from Testing.mrml.nodes import add_segmentation, add_volume
from Testing.mrml.scenes import scene_of_slicer

SIZE, SPACING = (512, 512, 275), (0.78, 0.78, 1.0)
MARK_MS = 50
CLICKS = 9
PATCHES_MM = (48.0, 96.0, 192.0)
"""A small structure, the paper's patch, and the bundled model's."""


@dataclass
class Wait:
    """Medians over clicks, in ms."""

    patch_mm: float
    voxels: int
    ask: float
    thread: float
    write: float
    all: float
    fastest: float
    """The fastest of all clicks, which other work on the computer disturbed least."""


class BallBackend:
    """Answers with a ball in the patch around the last click."""

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing

    def open(self, volume: Volume) -> BallBackend:
        self._geometry = volume.geometry
        self._grid = ModelGrid.covering(volume.geometry, self._spacing)
        axis = np.arange(PATCH) - (PATCH - 1) / 2
        radii = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        self._ball = np.clip(128 + 60 * (PATCH / 2 - 2 - radii), 1, 255).astype(np.uint8)
        return self

    def segment(self, clicks, reach="structure", progress=None, cancel=None) -> Result:
        x, y, z = (int(n) - PATCH // 2 for n in np.rint(self._grid.to_voxels(clicks[-1].position)))
        model = ModelInfo("ball", (-1000.0, 1000.0), self._spacing)
        canvas = Canvas().write((z, y, x), self._ball)
        patches = (Patch((z, y, x), 0),)
        return Result(tuple(clicks), reach, model, "0" * 64, 1.0, patches, True, canvas, self._grid, self._geometry)


def main(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Time clicks whose masks fill patches of several sizes."""
    with scene_of_slicer() as scene:
        voxels = np.full(SIZE[::-1], -1000, np.int16)
        voxels[1:] = 0
        volume = add_volume(scene, voxels, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]))
        waits = [measure(scene, volume, patch_mm) for patch_mm in PATCHES_MM]
    if as_json:
        typer.echo(json.dumps([asdict(wait) for wait in waits]))
        return
    table = Table(title=f"ms from click to updated segment, without the network; the mark is {MARK_MS} at 96 mm")
    for heading in ("patch, mm", "voxels of the mask", "ask", "thread", "write", "all", "fastest"):
        table.add_column(heading, justify="right")
    for wait in waits:
        times = (f"{value:.0f}" for value in (wait.ask, wait.thread, wait.write, wait.all, wait.fastest))
        table.add_row(f"{wait.patch_mm:.0f}", str(wait.voxels), *times)
    Console().print(table)


def measure(scene, volume, patch_mm: float) -> Wait:
    """Click along a line in a new segment; the first click, which is slower, is not counted."""
    segmentation, (segment_id,) = add_segmentation(scene, volume, f"ball of {patch_mm:.0f} mm")
    target = Target(segmentation, segment_id, volume)
    worker = PredictionWorker(lambda: BallBackend(patch_mm / PATCH))
    predictor = SegmentPredictor(worker)
    rows, clicks = [], []
    with LogicSegmentWriter(scene, segmentation, volume) as writer:
        for number in range(CLICKS):
            clicks.append(Click((195.0 + 4 * number, 200.0, 137.0)))
            begun = time.perf_counter()
            predictor.predict(target, clicks, writer)
            asked = time.perf_counter()
            worker.wait(60)
            came = time.perf_counter()
            (event,) = predictor.poll()
            done = time.perf_counter()
            assert isinstance(event, Written)
            changed = np.count_nonzero(event.change.added.voxels) + np.count_nonzero(event.change.removed.voxels)
            rows.append((changed, asked - begun, came - asked, done - came, done - begun))
    worker.close()
    scene.RemoveNode(segmentation)
    first, *later = rows
    _, *seconds = (statistics.median(column) for column in zip(*later, strict=True))
    fastest = min(row[-1] for row in later)
    return Wait(patch_mm, int(first[0]), *(1000 * value for value in (*seconds, fastest)))


if __name__ == "__main__":
    typer.run(main)
