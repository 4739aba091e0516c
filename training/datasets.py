"""Labelled CTs in the layouts that data sets come in, all read as the same records.

`read_dataset` recognises a folder by what is in it: our own `dataset.json`, TotalSegmentator's (both releases), nnU-Net
v2 raw, and the Medical Segmentation Decathlon's. Label names become those of `training.anatomy` where it knows them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.volume import Volume
from training import anatomy

LAYOUTS = (
    "our dataset.json (a list of cases), TotalSegmentator (CASE/ct.nii.gz and CASE/segmentations), nnU-Net v2 raw "
    "(dataset.json with channel_names) or MSD (dataset.json with a list of training)"
)
QUARANTINE = {"v1": {"s0864": "its CT fails the gzip check in this release"}}
"""Cases of TotalSegmentator that cannot be used, by release."""

SAME_GRID_MM = 0.1
"""Headers of one grid are rounded differently by different tools, by less than this."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseRecord:
    """One CT of a data set and its labels, none of it read yet.

    Attributes:
        labels: value in the label map to name of the structure; empty where the CT has no labels. A value of the map
            that is not here is no structure.
        label_file: the label map, or
        mask_files: value to binary file, where every structure has its own.
        tissues, tissue_file: a second label map, of tissues that the structures of the first are part of.
        split: "train", "val", "test", or "" where the data set does not say.

    """

    case: str
    ct: Path
    labels: dict[int, str] = field(default_factory=dict)
    label_file: Path | None = None
    mask_files: dict[int, Path] = field(default_factory=dict)
    tissues: dict[int, str] = field(default_factory=dict)
    tissue_file: Path | None = None
    split: str = ""
    source: str = ""
    licence: str = ""
    labels_made_by: str = ""

    @property
    def names(self) -> list[str]:
        """The names of all structures and tissues that can be labelled in this case."""
        return sorted({*self.labels.values(), *self.tissues.values()})

    def label_maps(self, ct: Volume) -> dict[str, Volume]:
        """Read "labels" and "tissue", those that there are, as uint8 or uint16 on the grid of the CT.

        Masks are merged in ascending order of their values, later over earlier.
        Raises VolumeError: a file cannot be read, holds no integers, or lies on another grid than the CT.
        """
        maps = {}
        if self.label_file:
            maps["labels"] = _read_labels(self.label_file, ct)
        elif self.mask_files:
            merged = np.zeros(ct.array.shape, np.min_scalar_type(max(self.mask_files)))
            for value, path in sorted(self.mask_files.items()):
                merged[_read_labels(path, ct).array != 0] = value
            maps["labels"] = Volume(merged, ct.geometry, self.case)
        if self.tissue_file:
            maps["tissue"] = _read_labels(self.tissue_file, ct)
        return maps

    def label_map(self) -> Volume:
        """Read the label map alone, on the CT's grid; VolumeError as in `label_maps`, and where there are no labels."""
        maps = self.label_maps(Volume.read(self.ct))
        if "labels" not in maps:
            raise VolumeError(f"{self.case} has no labels; choose a case that has.")
        return maps["labels"]

    def files(self) -> dict[str, Path]:
        """All files of the case by the part they play."""
        files = {"ct": self.ct, "labels": self.label_file, "tissue": self.tissue_file}
        masks = {f"label {value}": path for value, path in sorted(self.mask_files.items())}
        return {part: path for part, path in files.items() if path} | masks

    def content_hash(self) -> str:
        """The sha256 of the contents of all files, in hex. Raises VolumeError where one cannot be read."""
        digest = hashlib.sha256()
        for part, path in self.files().items():
            digest.update(part.encode())
            try:
                with path.open("rb") as file:
                    while block := file.read(2**20):
                        digest.update(block)
            except OSError as error:
                raise VolumeError(f"{path} cannot be read ({error.strerror}); restore the file.") from error
        return digest.hexdigest()


def read_dataset(folder: Path) -> list[CaseRecord]:
    """Return the cases of a data set in any known layout, in the order it lists them.

    Raises:
        VolumeError: the folder has no known layout, or its description is wrong.

    """
    folder = Path(folder)
    description = folder / "dataset.json"
    if description.is_file():
        content = _read_json(description)
        try:
            if isinstance(content, list):
                return [_own_case(folder, entry) for entry in content]
            if "channel_names" in content:
                return list(_nnunet_cases(folder, content))
            if isinstance(content.get("training"), list):
                return list(_msd_cases(folder, content))
        except KeyError as error:
            raise VolumeError(f"{description} lacks the entry {error}; add it.") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise VolumeError(f"{description} is not built as any known layout: {LAYOUTS}; mend it.") from error
    elif cts := sorted(folder.glob("*/ct.nii.gz")):
        return list(_totalsegmentator_cases(folder, cts))
    raise VolumeError(f"{folder} has no known layout; give a folder of {LAYOUTS}.")


def _own_case(folder: Path, entry: dict[str, Any]) -> CaseRecord:
    names = {value: given["name"] if isinstance(given, dict) else given for value, given in _items(entry.get("labels"))}
    label_file = folder / entry["label"] if entry.get("label") else None
    if label_file and not names:
        raise VolumeError(f"{folder / 'dataset.json'} does not name the labels of {entry['case']}; add them.")
    tissue_file = label_file.with_name(f"{entry['case']}-tissue.nii.gz") if label_file else None
    has_tissue = tissue_file is not None and tissue_file.is_file()
    return CaseRecord(
        case=entry["case"],
        ct=folder / entry["ct"],
        labels=_named(names) if label_file else {},
        label_file=label_file,
        tissues=anatomy.TISSUE_TYPES if has_tissue else {},
        tissue_file=tissue_file if has_tissue else None,
        split=entry.get("split", ""),
        source=entry.get("source", ""),
        licence=entry.get("licence", ""),
        labels_made_by=entry.get("labels_made_by", ""),
    )


def _totalsegmentator_cases(folder: Path, cts: list[Path]) -> Iterator[CaseRecord]:
    """The release is the one whose own classes are there; the indices of the other would merge overlaps otherwise."""
    masks = {ct: {_stem(path): path for path in ct.parent.glob("segmentations/*.nii.gz")} for ct in cts}
    found = {name for of_case in masks.values() for name in of_case}
    v1, v2 = set(anatomy.V1.values()), set(anatomy.V2.values())
    release, table = ("v1", anatomy.V1) if found & (v1 - v2) and not found & (v2 - v1) else ("v2", anatomy.V2)
    if unknown := found - set(table.values()):
        _logger.warning("%s: classes not of TotalSegmentator %s left out: %s", folder, release, sorted(unknown))
    splits = {}
    if (meta := folder / "meta.csv").is_file():
        with meta.open(newline="", encoding="utf-8-sig") as file:
            splits = {row.get("image_id"): row.get("split") or "" for row in csv.DictReader(file, delimiter=";")}
    for ct, of_case in masks.items():
        case = ct.parent.name
        if reason := QUARANTINE.get(release, {}).get(case):
            _logger.warning("%s of TotalSegmentator %s left out: %s", case, release, reason)
            continue
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
        )


def _nnunet_cases(folder: Path, content: dict[str, Any]) -> Iterator[CaseRecord]:
    """https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md; of several folds, the first."""
    channels, ending = content["channel_names"], content["file_ending"]
    channel = next((number for number, name in channels.items() if name.upper() == "CT"), next(iter(channels)))
    if any(isinstance(value, list) for value in content["labels"].values()):
        raise VolumeError(f"{folder / 'dataset.json'} has regions of several values; name each value by itself.")
    labels = {value: name for name, value in content["labels"].items() if name not in ("background", "ignore")}
    splits_file = folder / "splits_final.json"
    fold = _read_json(splits_file)[0] if splits_file.is_file() else {}
    splits = {case: split for split, cases in fold.items() for case in cases}
    for part, otherwise in (("Tr", "train"), ("Ts", "test")):
        for ct in sorted(folder.glob(f"images{part}/*_{int(channel):04d}{ending}")):
            case = ct.name[: -len(f"_0000{ending}")]
            yield _with_label_file(
                case, ct, folder / f"labels{part}" / f"{case}{ending}", labels, splits.get(case, otherwise), content
            )


def _msd_cases(folder: Path, content: dict[str, Any]) -> Iterator[CaseRecord]:
    """http://medicaldecathlon.com"""
    labels = {value: name for value, name in _items(content["labels"]) if name != "background"}
    for entry in content["training"]:
        ct = folder / entry["image"]
        yield _with_label_file(_stem(ct), ct, folder / entry["label"], labels, "train", content)
    for path in content.get("test", []):
        yield _with_label_file(_stem(folder / path), folder / path, None, {}, "test", content)


def _with_label_file(
    case: str, ct: Path, label_file: Path | None, labels: dict[int, str], split: str, content: dict[str, Any]
) -> CaseRecord:
    """A case of a data set that describes all its cases at once; without labels where the file is not there."""
    labelled = label_file is not None and label_file.is_file()
    return CaseRecord(
        case=case,
        ct=ct,
        labels=_named(labels) if labelled else {},
        label_file=label_file if labelled else None,
        split=split,
        source=content.get("reference") or content.get("name") or "",
        licence=content.get("licence") or content.get("license") or "",
    )


def _named(labels: dict[int, str]) -> dict[int, str]:
    return {int(value): anatomy.canonical(name) for value, name in sorted(labels.items())}


def _items(labels: dict[str, Any] | None) -> list[tuple[int, Any]]:
    """The labels of a JSON object, whose keys can only be text, by number; background is none."""
    return [(int(value), name) for value, name in (labels or {}).items() if int(value)]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path} cannot be read as JSON ({error}); mend it.") from error


def _read_labels(path: Path, ct: Volume) -> Volume:
    labels = Volume.read(path)
    if not labels.geometry.is_close(ct.geometry, SAME_GRID_MM):
        raise VolumeError(f"{path} lies on another grid than its CT; resample it onto the CT's.")
    low, high = labels.array.min(), labels.array.max()
    whole = labels.array.astype(np.min_scalar_type(int(high))) if 0 <= low <= high <= 65535 else None
    if whole is None or not np.array_equal(whole, labels.array):
        raise VolumeError(f"{path} holds values from {low:g} to {high:g} that are not all labels; give whole numbers.")
    return Volume(whole, ct.geometry, labels.name)
