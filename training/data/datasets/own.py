"""Our own layout: dataset.json is a list of cases, each with its CT, its label map and the names of its labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from CTSAM3DLib.errors import VolumeError
from training import anatomy
from training.data.datasets.description import items, named
from training.data.datasets.records import CaseRecord


def cases(folder: Path, content: list[dict[str, Any]]) -> Iterator[CaseRecord]:
    """A label map `CASE-tissue.nii.gz` beside that of the case holds TotalSegmentator's tissue types."""
    for entry in content:
        names = {
            value: given["name"] if isinstance(given, dict) else given for value, given in items(entry.get("labels"))
        }
        label_file = folder / entry["label"] if entry.get("label") else None
        if label_file and not names:
            raise VolumeError(f"{folder / 'dataset.json'} does not name the labels of {entry['case']}; add them.")
        tissue_file = label_file.with_name(f"{entry['case']}-tissue.nii.gz") if label_file else None
        has_tissue = tissue_file is not None and tissue_file.is_file()
        yield CaseRecord(
            case=entry["case"],
            ct=folder / entry["ct"],
            labels=named(names) if label_file else {},
            label_file=label_file,
            tissues=anatomy.TISSUE_TYPES if has_tissue else {},
            tissue_file=tissue_file if has_tissue else None,
            split=entry.get("split", ""),
            source=entry.get("source", ""),
            licence=entry.get("licence", ""),
            labels_made_by=entry.get("labels_made_by", ""),
            region=entry.get("region", ""),
            patient=entry.get("patient", ""),
        )
