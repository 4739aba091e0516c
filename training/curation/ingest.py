"""Read a case and check it: the CT, and its own labels under the values of TotalSeg++."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.defects import Defect, blaming
from training.data.datasets.records import CaseRecord, read_labels

_TISSUES = anatomy.GROUPS["Curated"]
_VALUES = {name: value for value, name in anatomy.EXTENDED.items() if name not in _TISSUES}

MAX_OVERLAPS = 3
"""Pairs of masks that are named, those that overlap most."""


@dataclass(frozen=True)
class Ingested:
    """A case as its data set has it.

    Attributes:
        ct: int16 HU, (z, y, x).
        labels: uint8, values of `anatomy.EXTENDED`, on the grid of the CT.
        notes: sentences on what is odd about it but does not keep it out.

    """

    ct: Volume
    labels: Volume
    notes: tuple[str, ...]


def ingest(record: CaseRecord) -> Ingested:
    """Return the CT and its labels, mapped by name and never by index, which differs between releases.

    Tissues that the data set has already are left out, since they are made anew. Masks are merged in ascending order of
    their values in the data set, later over earlier, as TotalSegmentator's own tool does; overlaps are noted. Raises
    Defect where the case cannot be used.
    """
    if record.defect:
        raise Defect(f"{record.case} is known not to be usable: {record.defect}.", str(record.ct))
    if record.labels and not set(record.labels.values()) & set(_VALUES):
        raise Defect(f"{record.case} has no label that TotalSeg++ knows; rename its labels.", str(record.ct))
    ct = _read_ct(record)
    notes: list[str] = []
    if record.label_file:
        with blaming(record.label_file):
            own = read_labels(record.label_file, ct).array
        labels = _renumbered(own, record.labels)
    elif record.mask_files:
        labels, notes = _merged(record, ct)
    else:
        raise Defect(f"{record.case} has no masks; restore its folder of segmentations.", str(record.ct.parent))
    if not labels.any():
        raise Defect(f"All masks of {record.case} are empty; look whether they belong to this CT.", str(record.ct))
    if strange := sorted(set(record.labels.values()) - set(_VALUES) - set(_TISSUES)):
        notes.append(f"Labels that TotalSeg++ does not know are left out: {', '.join(strange)}.")
    return Ingested(ct, Volume(labels, ct.geometry, record.case), tuple(notes))


def _read_ct(record: CaseRecord) -> Volume:
    with blaming(record.ct):
        ct = Volume.read(record.ct)
        ct.check_ct()
    axes = np.reshape(ct.geometry.direction, (3, 3))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise Defect(f"The axes of {record.ct} are not at right angles; resample the CT and its masks.", str(record.ct))
    hu = ct.array if ct.array.dtype == np.int16 else np.rint(ct.array).astype(np.int16)
    return Volume(hu, ct.geometry, record.case)


def _renumbered(own: np.ndarray, names: dict[int, str]) -> np.ndarray:
    table = np.zeros(int(own.max()) + 1, np.uint8)
    for value, name in names.items():
        if value < len(table):
            table[value] = _VALUES.get(name, 0)
    return table[own]


def _merged(record: CaseRecord, ct: Volume) -> tuple[np.ndarray, list[str]]:
    labels = np.zeros(ct.array.shape, np.uint8)
    overlaps: Counter[tuple[str, str]] = Counter()
    for value, path in sorted(record.mask_files.items()):
        with blaming(path):
            mask = read_labels(path, ct).array != 0
        for below, voxels in zip(*np.unique(labels[mask], return_counts=True), strict=True):
            if below:
                overlaps[anatomy.EXTENDED[int(below)], record.labels[value]] += int(voxels)
        labels[mask] = _VALUES[record.labels[value]]
    if not overlaps:
        return labels, []
    most = [f"{over} has {voxels} of {under}" for (under, over), voxels in overlaps.most_common(MAX_OVERLAPS)]
    return labels, [f"{sum(overlaps.values())} voxels lie in two masks: {', '.join(most)}."]
