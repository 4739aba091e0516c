"""TotalSegmentator's data sets: CASE/ct.nii.gz, CASE/segmentations/CLASS.nii.gz, and splits in meta.csv."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

from training import anatomy
from training.data.datasets.description import stem
from training.data.datasets.records import CaseRecord

KNOWN_DEFECTS = {"v1": {"s0864": "its CT fails the gzip check in this release"}}
"""Cases that cannot be used, by release."""

_logger = logging.getLogger(__name__)


def cases(folder: Path) -> Iterator[CaseRecord]:
    """The release is the one whose own classes are there; the indices of the other would merge overlaps otherwise."""
    cts = sorted(folder.glob("*/ct.nii.gz"))
    masks = {ct: {stem(path): path for path in ct.parent.glob("segmentations/*.nii.gz")} for ct in cts}
    found = {name for of_case in masks.values() for name in of_case}
    v1, v2 = set(anatomy.V1.values()), set(anatomy.V2.values())
    release, table = ("v1", anatomy.V1) if found & (v1 - v2) and not found & (v2 - v1) else ("v2", anatomy.V2)
    if unknown := found - set(table.values()):
        _logger.warning("%s: classes not of TotalSegmentator %s left out: %s", folder, release, sorted(unknown))
    splits = _splits(folder / "meta.csv")
    for ct, of_case in masks.items():
        case = ct.parent.name
        indices = [index for index, name in table.items() if name in of_case]
        yield CaseRecord(
            case=case,
            ct=ct,
            labels={index: table[index] for index in indices},
            mask_files={index: of_case[table[index]] for index in indices},
            split=splits.get(case, ""),
            source=f"TotalSegmentator data set {release}, doi.org/10.5281/zenodo.6802613",
            licence="CC BY 4.0",
            labels_made_by="proposed by models, corrected by hand",
            defect=KNOWN_DEFECTS.get(release, {}).get(case, ""),
        )


def _splits(meta: Path) -> dict[str, str]:
    if not meta.is_file():
        return {}
    with meta.open(newline="", encoding="utf-8-sig") as file:
        return {row.get("image_id") or "": row.get("split") or "" for row in csv.DictReader(file, delimiter=";")}
