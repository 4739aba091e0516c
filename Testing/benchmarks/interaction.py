"""How long a user waits for each mask, and how much memory it takes.

    python -m Testing.benchmarks.interaction [CT] [--click L,P,S] [--click L,P,S,-] [--threads N] [--json]

A mask counts as there once it lies on the CT's own grid. The clicks are answered one after another in one session.
"""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import SimpleITK as sitk
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib.clicks.click import Click, parse_click
from CTSAM3DLib.imaging.volume import Volume
from Testing.support.data import DATA

CHEST = DATA / "ct" / "chest-lidc-0314.nii.gz"
SIZE, SPACING = (512, 512, 275), (0.78, 0.78, 1.0)
UNDO_ROUNDS = 20
MIB = 2**20
OPEN_TO_FIRST_MASK_S = 1.5
PEAK_OVER_VOLUME_MIB = 1536


@dataclass
class Wait:
    """Seconds until something was there."""

    step: str
    first_mask_s: float | None
    done_s: float
    note: str = ""


def main(
    ct: Annotated[Path | None, typer.Argument(help="A CT; by default a chest of 512x512x275 voxels.")] = None,
    click: Annotated[list[str] | None, typer.Option(help="L,P,S in mm, or L,P,S,- for a negative click.")] = None,
    model: Annotated[str, typer.Option(help="The name of a bundled model.")] = "ctsam3d-small",
    weights: Annotated[str | None, typer.Option(help="A model file instead.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default the best.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default PyTorch's choice.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Time the interaction with one CT, and measure its memory."""
    with tempfile.TemporaryDirectory() as folder:
        if ct is None and not CHEST.is_file():
            # In another process, so that making the volume does not count as memory of the interaction.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                ct = process.submit(write_torso, Path(folder) / "torso.nii").result()
        seconds, volume = _timed(lambda: Volume.read(ct or CHEST))
    memory = {"volume": volume.array.nbytes / MIB, "process_with_volume_only": _resident()}
    memory["peak_of_reading"] = _peak()
    clicks = [Click(*parse_click(text)) for text in click] if click else clicks_around_centre(volume)
    waits = [Wait("read the CT", None, seconds, f"{volume.name}, {'x'.join(map(str, volume.array.shape[::-1]))}")]

    seconds, torch = _timed(_import_torch)
    if threads is not None:
        torch.set_num_threads(threads)
    waits.append(Wait("import PyTorch and the library", None, seconds))

    from CTSAM3DLib.segmentation.session import Segmenter

    seconds, segmenter = _timed(lambda: Segmenter.load(model, weights, device))
    engine = segmenter.engine
    waits.append(Wait("load the model", None, seconds, f"{engine.model.info.name} {engine.model.file_hash[:12]}"))
    memory["process_with_volume_and_model"] = _resident()

    interaction = _interaction(segmenter, volume, clicks)
    waits += interaction
    memory["peak"] = _peak()
    memory["peak_over_volume"] = memory["peak"] - memory["volume"]
    report = {
        "open_to_first_mask_s": interaction[0].done_s + (interaction[1].first_mask_s or 0),
        "waits": [asdict(wait) for wait in waits],
        "memory_mib": memory,
        "device": engine.device,
        "precision": engine.precision,
        "threads": torch.get_num_threads(),
        "computer": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("ctsam3d", "torch", "SimpleITK", "numpy")}
        | {"python": platform.python_version()},
    }
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)


def write_torso(path: Path) -> Path:
    """Write a synthetic torso of the default chest's size, without compression, and return its path."""
    from CTSAM3DLib.phantom.torso import torso

    coarse = torso().ct
    image = sitk.GetImageFromArray(coarse.array)
    image.SetOrigin(coarse.geometry.origin)
    image.SetSpacing(coarse.geometry.spacing)
    centre = coarse.geometry.corners().mean(axis=0)
    origin = centre - (np.array(SIZE) - 1) * SPACING / 2
    air = -1024
    fine = sitk.Resample(image, SIZE, sitk.Transform(), sitk.sitkLinear, origin, SPACING, image.GetDirection(), air)
    sitk.WriteImage(fine, path)
    return path


def clicks_around_centre(volume: Volume) -> list[Click]:
    """Return a click in the middle of the volume, one 8 mm before it, and a negative one 24 mm to its left."""
    centre = volume.geometry.corners().mean(axis=0)
    left, posterior = np.array([1, 0, 0]), np.array([0, 1, 0])
    return [
        Click(tuple(centre)),
        Click(tuple(centre - 8 * posterior)),
        Click(tuple(centre + 24 * left), positive=False),
    ]


def _interaction(segmenter, volume: Volume, clicks: list[Click]) -> list[Wait]:
    """The steps of a user, the opening first and then the first click, with nothing computed before."""
    seconds, session = _timed(lambda: segmenter.open(volume))
    waits = [Wait("open a session", None, seconds)]
    result = None
    for count, click in enumerate(clicks, start=1):
        known = len(result.patches) if result else 0
        wait, result = _answer(session, clicks[:count], "structure")
        grown = len(result.patches) - known - 1
        wait.step = f"click {count}, {'positive' if click.positive else 'negative'}"
        wait.note = f"{_voxels(result)}; grown into {grown} patches"
        if grown > 0:
            wait.note += f", {(wait.done_s - wait.first_mask_s) / grown:.2f} s each"
        waits.append(wait)

    if len(clicks) > 1:
        wait, shorter = _answer(session, clicks[:-1], "structure")
        waits.append(Wait("undo", None, wait.done_s, _voxels(shorter)))
        rounds = [_answer(session, part, "structure")[0] for part in (clicks, clicks[:-1]) * UNDO_ROUNDS]
        mean = float(np.mean([wait.done_s for wait in rounds]))
        waits.append(Wait("undo or redo, again and again", None, mean, f"mean of {len(rounds)}"))
        again = _answer(session, clicks, "structure")[1]
        assert np.array_equal(again.mask.array, result.mask.array), "undo and redo changed the mask"

    seconds, cropped = _timed(lambda: session.segment(clicks).cropped[0])
    waits.append(
        Wait("bring the last mask back to the CT", None, seconds, f"box of {'x'.join(map(str, cropped.shape))}")
    )
    wait, _ = _answer(segmenter.open(volume), clicks[:1], "patch")
    wait.step, wait.note = "click 1 with reach patch", "nothing cached, all warm"
    waits.append(wait)
    waits.append(_growth_apart(segmenter.engine, volume))
    return waits


def _answer(session, clicks: list[Click], reach: str):
    """The wait for the mask of these clicks, and the result."""
    start = time.perf_counter()
    first: list[float] = []

    def note_first(partial) -> None:
        if not first:
            _ = partial.cropped
            first.append(time.perf_counter() - start)

    result = session.segment(clicks, reach=reach, progress=note_first)
    _ = result.cropped
    return Wait("", first[0] if first else None, time.perf_counter() - start), result


def _growth_apart(engine, volume: Volume) -> Wait:
    """What one patch of growth costs whether or not this model's mask grew: sample, encode, propose, decode."""
    from CTSAM3DLib.imaging.constants import PATCH
    from CTSAM3DLib.segmentation.growth import DIRECTIONS, STRIDE
    from CTSAM3DLib.segmentation.patch_grid import TileSampler
    from CTSAM3DLib.segmentation.prompt_maps import click_maps

    source = TileSampler(volume, engine.model.info.spacing)
    middle = np.array(source.grid.shape) // 2 - PATCH // 2
    mask = np.zeros((PATCH,) * 3, np.uint8)
    clicked = source.patch(middle)

    def grow(direction: tuple[int, int, int]) -> None:
        neighbour = source.patch(middle + STRIDE * np.array(direction))
        engine.predict_prompts([clicked], [mask], [neighbour])
        prompts = np.stack([mask.astype(np.float32), *click_maps([(32, 32, 32)], [1])])
        engine.decode([engine.encode(neighbour)], [prompts])

    seconds, _ = _timed(lambda: [grow(direction) for direction in DIRECTIONS])
    return Wait("one patch of growth, by itself", None, seconds / len(DIRECTIONS), f"mean of {len(DIRECTIONS)}")


def _voxels(result) -> str:
    return f"{np.count_nonzero(result.cropped[0])} voxels"


def _timed(work: Callable):
    start = time.perf_counter()
    answer = work()
    return time.perf_counter() - start, answer


def _import_torch():
    import torch

    import CTSAM3DLib.segmentation.session  # noqa: F401

    return torch


def _resident() -> float:
    return psutil.Process().memory_info().rss / MIB


def _peak() -> float:
    """MiB that this process has taken at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def _show(report: dict) -> None:
    console = Console(width=120)
    table = Table("", "first mask (s)", "done (s)", "", title="Interaction")
    for wait in report["waits"]:
        first = "" if wait["first_mask_s"] is None else f"{wait['first_mask_s']:.3f}"
        table.add_row(wait["step"], first, f"{wait['done_s']:.3f}", wait["note"])
    table.add_section()
    opened = report["open_to_first_mask_s"]
    table.add_row("open to first mask", f"{opened:.3f}", "", _against(opened, OPEN_TO_FIRST_MASK_S, "s"))
    for name, mib in report["memory_mib"].items():
        note = _against(mib, PEAK_OVER_VOLUME_MIB, "MiB") if name == "peak_over_volume" else ""
        table.add_row(f"memory: {name.replace('_', ' ')}", "", f"{mib:.0f} MiB", note)
    console.print(table)
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    console.print(
        f"{report['device']}, {report['precision']}, {report['threads']} threads on {report['computer']}, "
        f"load average {report['load_average']:.1f}; {versions}"
    )


def _against(value: float, mark: float, unit: str) -> str:
    return f"{'within' if value <= mark else 'beyond'} the mark of {mark} {unit}"


if __name__ == "__main__":
    typer.run(main)
