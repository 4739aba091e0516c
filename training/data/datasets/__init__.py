"""Readers of labelled data sets; all layouts are read as the same records.

`read_dataset` recognises the layout of a folder by its files; there is one module for each family of layouts. Label
names are translated to those of `training.anatomy` where possible.
"""

from __future__ import annotations

import logging
from pathlib import Path

from CTSAM3DLib.errors import VolumeError
from training.data.datasets import abdomen, decathlon, nnunet, own, totalsegmentator
from training.data.datasets.description import read_json
from training.data.datasets.records import CaseRecord

__all__ = ["LAYOUTS", "CaseRecord", "read_dataset"]

LAYOUTS = (
    "our dataset.json (a list of cases), TotalSegmentator (CASE/ct.nii.gz and CASE/segmentations), nnU-Net v2 raw "
    "(dataset.json with channel_names), MSD or a MONAI datalist (JSON with a list of training), "
    "FLARE22 (images/FLARE22_*) or BTCV (RawData/Training/img)"
)

_logger = logging.getLogger(__name__)


def read_dataset(path: Path, with_defects: bool = False) -> list[CaseRecord]:
    """Return the cases of a data set in any known layout, in the order it lists them.

    Args:
        path: a folder, or the JSON file of a MONAI datalist.
        with_defects: also return cases that are known to be unusable; else they are left out with a warning.

    Raises:
        VolumeError: there is no such folder, it has no known layout, or its description is wrong.

    """
    records = _records(Path(path))
    if with_defects:
        return records
    for record in records:
        if record.defect:
            _logger.warning("%s of %s left out: %s", record.case, record.source, record.defect)
    return [record for record in records if not record.defect]


def _records(path: Path) -> list[CaseRecord]:
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check its name.")
    description = path if path.is_file() else path / "dataset.json"
    if description.is_file():
        return _described(description)
    lists = [file for file in sorted(path.glob("*.json")) if decathlon.is_datalist(read_json(file))]
    if len(lists) > 1:
        raise VolumeError(f"{path} has several datalists: {', '.join(file.name for file in lists)}; give one of them.")
    if lists:
        return _described(lists[0])
    for layout in (totalsegmentator, abdomen):
        if records := list(layout.cases(path)):
            return records
    raise VolumeError(f"{path} has no known layout; give a folder of {LAYOUTS}.")


def _described(description: Path) -> list[CaseRecord]:
    """The cases of a data set with a JSON file, by the layout of its content."""
    folder, content = description.parent, read_json(description)
    try:
        if isinstance(content, list):
            return list(own.cases(folder, content))
        if "channel_names" in content:
            return list(nnunet.cases(folder, content))
        if decathlon.is_datalist(content):
            return list(decathlon.cases(folder, content))
    except KeyError as error:
        raise VolumeError(f"{description} lacks the entry {error}; add it.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise VolumeError(f"{description} is not built as any known layout: {LAYOUTS}; mend it.") from error
    raise VolumeError(f"{description} has no known layout; give a folder of {LAYOUTS}.")
