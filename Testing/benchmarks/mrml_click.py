"""From a click to the updated segment on a large CT, with the network taken off.

    python -m Testing.benchmarks.mrml_click [--json]

In the place of the network, something answers at once with a ball that fills the clicked patch. What is timed is all
the rest: the request, the way through the thread, the session, the mask on the CT's grid, the undo state, the tags,
and the write by Slicer's own logic. The CT has the size and the spacing of chest-lidc-0314; its voxels do not matter.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.interaction.prediction_worker import PredictionWorker
from CTSAM3DLib.mrml.predictor import Failed, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from CTSAM3DLib.segmentation.patch_grid import TileSampler
from CTSAM3DLib.segmentation.session import Session
from Testing.support.mrml_nodes import add_segmentation, add_volume
from Testing.support.mrml_scenes import scene_of_slicer

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
    """The session and the mask on the CT's grid; the application goes on meanwhile."""
    write: float
    all: float
    processor: float
    """Time of the processor in all threads, which other work on the computer hardly adds to."""


class BallNetwork:
    """In the place of an engine: answers at once with a ball that fills the patch."""

    def __init__(self, spacing: float) -> None:
        info = ModelInfo("ball", (-1000.0, 1000.0), spacing, cross_patch=False)
        self.model, self.execution = SimpleNamespace(info=info, file_hash="0" * 64), "none"
        axis = np.arange(PATCH) - (PATCH - 1) / 2
        radii = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        self._ball = np.clip(128 + 60 * (PATCH / 2 - 2 - radii), 0, 255).astype(np.uint8)

    def encode(self, patch: np.ndarray) -> list:
        return []

    def decode(self, features: list, prompts: list) -> list[tuple[np.ndarray, float]]:
        return [(self._ball, 1.0) for _ in prompts]

    def prefetch(self, prompts: Callable[[], np.ndarray]) -> None:
        pass

    def open(self, volume: Volume) -> Session:
        return Session(self, TileSampler(volume, self.model.info.spacing), volume.geometry)


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
    for heading in ("patch, mm", "voxels of the mask", "ask", "thread", "write", "all", "processor"):
        table.add_column(heading, justify="right")
    for wait in waits:
        times = (f"{value:.0f}" for value in (wait.ask, wait.thread, wait.write, wait.all, wait.processor))
        table.add_row(f"{wait.patch_mm:.0f}", str(wait.voxels), *times)
    Console().print(table)


def measure(scene, volume, patch_mm: float) -> Wait:
    """Click once, and move the click again and again; each time a patch is answered and the whole ball moves.

    The first click is not counted: it also samples the CT.
    """
    segmentation, (segment_id,) = add_segmentation(scene, volume, f"ball of {patch_mm:.0f} mm")
    target = Target(segmentation, segment_id, volume)
    worker = PredictionWorker(lambda: BallNetwork(patch_mm / PATCH))
    predictor = SegmentPredictor(worker)
    rows = []
    with LogicSegmentWriter(scene, segmentation, volume) as writer:
        for number in range(CLICKS):
            click = Click((195.0 + 4 * number, 200.0, 137.0))
            begun, busy = time.perf_counter(), time.process_time()
            predictor.predict(target, [click], writer, reach="patch")
            asked = time.perf_counter()
            events = []
            while not events or not isinstance(events[-1], Written):  # a slow answer is previewed first
                worker.wait(60)
                came = time.perf_counter()
                events = predictor.poll()
                if failed := [event for event in events if isinstance(event, Failed)]:
                    raise SystemExit(f"A click was not answered: {failed[0].error}")
            done = time.perf_counter()
            rows.append((asked - begun, came - asked, done - came, done - begun, time.process_time() - busy))
            masked = np.count_nonzero(events[-1].result.cropped[0])
    worker.close()
    scene.RemoveNode(segmentation)
    seconds = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    return Wait(patch_mm, int(masked), *(1000 * value for value in seconds))


if __name__ == "__main__":
    typer.run(main)
