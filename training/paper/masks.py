"""The cases of Figure 5 and supplementary Figure 3: segment them again and store the masks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.simulation import first_click, simulate
from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.orient import to_rai
from training.data.datasets import CaseRecord
from training.evaluation.click_protocol import click_rng
from training.evaluation.methods import Method, MethodChoice
from training.exhibits.pictured import CT, TRUTH, PicturedCase, mask_file

_VALUES = {name: value for value, name in anatomy.EXTENDED.items()}


def keep_case(
    folder: Path, pictured: PicturedCase, record: CaseRecord, labels: Sequence[str], choices: Sequence[MethodChoice]
) -> None:
    """Segment these structures of a case by clicks with each method, unless stored already.

    The clicks are those of the evaluation's first seed, so the masks are those that were scored. Of structures that
    lie within one another the smaller is kept. Raises VolumeError, ModelError and OutputError.
    """
    if PicturedCase.read(folder) == pictured:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ct = Volume.read(record.ct)
    truths = _truths(record, ct, labels)
    to_rai(ct).write(folder / CT)
    to_rai(_merged(truths, ct), labels=True).write(folder / TRUTH)
    for number, choice in enumerate(choices, start=1):
        masks = _masks(choice.load(), ct, truths, record.case, pictured.clicks)
        to_rai(_merged(masks, ct), labels=True).write(folder / mask_file(number))
    pictured.write(folder)


def _truths(record: CaseRecord, ct: Volume, labels: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Masks (z, y, x) of the structures that have a value in TotalSeg++'s table."""
    maps = record.label_maps(ct)
    masks = {
        name: maps[part].array == value
        for part, names in (("labels", record.labels), ("tissue", record.tissues))
        for value, name in names.items()
        if name in _VALUES and name in labels
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _masks(
    method: Method, ct: Volume, truths: Mapping[str, NDArray[np.bool_]], case: str, clicks: int
) -> dict[str, NDArray[np.bool_]]:
    opened = method.open(ct)
    masks = {}
    for name, truth in truths.items():
        *_, (answer, _, _) = simulate(opened, truth, first_click(truth, click_rng(0, case, name)), clicks)
        masks[name] = np.asarray(answer.mask.array, bool)
    return masks


def _merged(masks: Mapping[str, NDArray[np.bool_]], ct: Volume) -> Volume:
    """Masks merged into one label map; smaller structures overwrite larger ones."""
    merged = np.zeros(ct.array.shape, np.uint8)
    for name, mask in sorted(masks.items(), key=lambda item: -np.count_nonzero(item[1])):
        merged[mask] = _VALUES[name]
    return Volume(merged, ct.geometry)
