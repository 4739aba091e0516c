"""From a click to its mask while the event loop holds Python's lock, as Slicer's does.

    python -m Testing.benchmarks.held_lock [CT] [--json]

Slicer's event loop never gives Python's lock away by itself, so that threads get on only while a slot waits on purpose;
PySide's does, and would hide what that costs. So here no Qt runs: the loop waits in C without giving the lock away
(`ctypes.PyDLL`), then does what PredictionDriver does in every poll. The server is a process of its own with the
bundled model, which answers one patch. Linux and macOS only.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.interaction.prediction_worker import PredictionWorker
from CTSAM3DLib.mrml.predictor import Failed, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from CTSAM3DLib.remote.local_server import LocalServer
from Testing.benchmarks.interaction import CHEST
from Testing.support.mrml_nodes import add_segmentation, add_volume
from Testing.support.mrml_scenes import scene_of_slicer

PACES_MS = ((50, 5), (20, 10), (10, 20), (5, 30), (0, 1000))
"""How long the loop holds the lock, and how long a poll gives it away at most; the last is no event loop at all."""
ROUNDS = 9

_held_sleep = ctypes.PyDLL(None).usleep


@dataclass
class Wait:
    """Clicks at one pace, in ms; the first one also samples the CT."""

    held: int
    given: int
    first: float
    median: float


class Desk:
    """A segment with its own worker and predictor, polled at one pace."""

    def __init__(self, scene: Any, volume: Any, server: LocalServer, held: int, given: int) -> None:
        segmentation, (segment_id,) = add_segmentation(scene, volume, "structure")
        self.held, self.given = held, given
        self._target = Target(segmentation, segment_id, volume)
        self._writer = LogicSegmentWriter(scene, segmentation, volume)
        self.worker = PredictionWorker(server.connect)
        self._predictor = SegmentPredictor(self.worker)
        self.times: list[float] = []

    def click(self, x: float, y: float, z: float) -> None:
        """Click at LPS mm and wait for the mask."""
        begun = time.perf_counter()
        self._predictor.predict(self._target, [Click((x, y, z))], self._writer, "patch")
        events: list[Any] = []
        while not events or not isinstance(events[-1], Written):
            _held_sleep(1000 * self.held)
            self.worker.wait(self.given / 1000)
            events = self._predictor.poll()
            if events and isinstance(events[-1], Failed):
                raise events[-1].error
        self.times.append(1000 * (time.perf_counter() - begun))


def main(
    ct: Annotated[Path, typer.Argument(help="A CT; by default the large chest.")] = CHEST,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Click around the middle of the CT at every pace in turn; each click is one that the network has to answer."""
    image = Volume.read(ct)
    center = image.geometry.to_lps(np.subtract(image.array.shape[::-1], 1) / 2)
    with scene_of_slicer() as scene, LocalServer(device="cpu") as server:
        volume = add_volume(scene, image.array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.geometry.ijk_to_lps)
        *desks, warm_up = (Desk(scene, volume, server, *pace) for pace in (*PACES_MS, (0, 1000)))
        warm_up.click(*center)
        for number in range(ROUNDS * len(desks)):
            x, y, z = center
            desks[number % len(desks)].click(x + 0.5 * (number + 1), y, z)
        for desk in (*desks, warm_up):
            desk.worker.close()
    waits = [Wait(desk.held, desk.given, desk.times[0], statistics.median(desk.times[1:])) for desk in desks]
    if as_json:
        typer.echo(json.dumps([asdict(wait) for wait in waits]))
        return
    for wait in waits:
        typer.echo(
            f"held for {wait.held:2} ms, given away for {wait.given:4} ms: "
            f"first click {wait.first:4.0f} ms, median of the others {wait.median:4.0f} ms"
        )


if __name__ == "__main__":
    typer.run(main)
