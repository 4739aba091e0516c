"""The demonstration: simulated clicks at structures whose truth is known, and how close the masks come."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.clicks.simulation import next_click, simulate
from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.output import provenance
from CTSAM3DLib.output.pictures import PALETTE, Overlay, three_planes
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from CTSAM3DLib.phantom.torso import torso
from CTSAM3DLib.segmentation.result import Result
from CTSAM3DLib.segmentation.session import Segmenter, Session

PHANTOM_STRUCTURES = ("liver", "kidney_left", "aorta", "vertebrae_L1", "lung_right")
"""A large organ, a small one with a pattern, a long vessel, a bone with thin parts, and air."""


@dataclass(frozen=True)
class Case:
    """A CT, its label map (z, y, x), and the structures to click at: label to name."""

    ct: Volume
    labels: NDArray[Any]
    names: dict[int, str]
    synthetic: bool


@dataclass(frozen=True)
class Clicked:
    """A structure and how it went: Dice and seconds of each click, fewer than asked for where no error was left."""

    name: str
    result: Result
    dice: tuple[float, ...]
    seconds: tuple[float, ...]


def phantom_case(seed: int) -> Case:
    """The synthetic torso of this seed."""
    phantom = torso(seed)
    labels = {name: label for label, name in phantom.names.items()}
    return Case(phantom.ct, phantom.labels, {labels[name]: name for name in PHANTOM_STRUCTURES}, synthetic=True)


def labelled_case(ct_path: Path, labels_path: Path) -> Case:
    """A CT and the largest structures of its label map. Raises VolumeError where the two do not fit."""
    ct, labels = Volume.read(ct_path), Volume.read(labels_path)
    if not labels.geometry.is_close(ct.geometry):
        raise VolumeError(f"{labels_path} does not lie on the voxels of {ct_path}; resample it to the CT.")
    if labels.array.dtype.kind not in "iu":
        raise VolumeError(f"{labels_path} holds fractions, not labels; save it as integers.")
    values, counts = np.unique(labels.array[labels.array.astype(bool)], return_counts=True)
    if not len(values):
        raise VolumeError(f"{labels_path} is empty; give a map with labels.")
    largest = sorted(int(value) for value in values[np.argsort(-counts, kind="stable")][: len(PALETTE)])
    return Case(ct, labels.array, {label: f"label {label}" for label in largest}, synthetic=False)


def run(case: Case, folder: Path, clicks: int, progress: Callable[[str], None]) -> Table:
    """Click at every structure of a case, write everything into a folder that exists, and return the table.

    Files: `demo.seg.nrrd` (labels 1, 2, ... in the table's order), `demo.png`, `demo.csv`, and `torso.nii.gz` where
    the CT is synthetic. `progress` is told what is going on. Raises CTSAM3DError.
    """
    progress("loading the model")
    session = Segmenter.load().open(case.ct)
    done = []
    for label, name in case.names.items():
        progress(f"clicking at {name}")
        done.append(click_at(session, name, case.labels == label, clicks))
    progress("writing")
    if case.synthetic:
        case.ct.write(folder / "torso.nii.gz")
    _write_segmentation(done, folder / "demo.seg.nrrd")
    overlays = [Overlay(one.result.mask, one.name, color) for one, color in zip(done, PALETTE, strict=False)]
    three_planes(case.ct, overlays, [click for one in done for click in one.result.clicks], folder / "demo.png")
    _write_csv(done, folder / "demo.csv")
    return _table(done, clicks, case.synthetic)


def click_at(session: Session, name: str, truth: NDArray[np.bool_], clicks: int) -> Clicked:
    """Click at a structure (z, y, x on the CT's grid): its deepest point first, then that of the deepest error."""
    deepest = next_click(truth, np.zeros_like(truth), np.random.default_rng(0), session.geometry.spacing[::-1])
    if deepest is None:
        raise VolumeError(f"{name} is empty; choose a structure that the label map holds.")
    results, scores, seconds = zip(*simulate(session, truth, deepest[0], clicks), strict=True)
    return Clicked(name, results[-1], scores, seconds)


def _write_segmentation(done: list[Clicked], path: Path) -> None:
    """One label map; where masks overlap, the smaller structure lies on top."""
    geometry = done[0].result.geometry
    array = np.zeros(geometry.shape, np.uint8)
    by_size = sorted(enumerate(done, start=1), key=lambda item: -int(item[1].result.cropped[0].sum()))
    for label, one in by_size:
        cropped, box = one.result.cropped
        array[box][cropped > 0] = label
    segments = [
        Segment(one.name, label, color, provenance.tags(one.result))
        for (label, one), color in zip(enumerate(done, start=1), PALETTE, strict=False)
    ]
    write_segmentation(Volume(array, geometry), path, segments)


def _write_csv(done: list[Clicked], path: Path) -> None:
    """One line for each click: how many so far, the Dice after it, and its seconds."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("structure", "clicks", "dice", "seconds"))
        for one in done:
            for count, (score, seconds) in enumerate(zip(one.dice, one.seconds, strict=True), start=1):
                writer.writerow((one.name, count, f"{score:.4f}", f"{seconds:.3f}"))


def _table(done: list[Clicked], clicks: int, synthetic: bool) -> Table:
    caption = "Synthetic CT: these figures say nothing about patients." if synthetic else None
    table = Table(title="Dice after each click", caption=caption)
    table.add_column("structure", no_wrap=True)
    for heading in (*map(str, range(1, clicks + 1)), "first s", "later s"):
        table.add_column(heading, justify="right")
    for one in done:
        carried = [one.dice[min(count, len(one.dice) - 1)] for count in range(clicks)]
        later = f"{np.mean(one.seconds[1:]):.2f}" if len(one.seconds) > 1 else "-"
        table.add_row(one.name, *(f"{score:.3f}" for score in carried), f"{one.seconds[0]:.2f}", later)
    return table
