"""Shared by the readers of data sets with a description: JSON, file names, label names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from CTSAM3DLib.errors import VolumeError
from training import anatomy
from training.data.datasets.records import CaseRecord


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises VolumeError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path} cannot be read as JSON ({error}); mend it.") from error


def stem(path: Path) -> str:
    """The name of a NIfTI file without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def named(labels: Mapping[int, str]) -> dict[int, str]:
    """Labels by rising value, in the names of `training.anatomy`."""
    return {int(value): anatomy.canonical(name) for value, name in sorted(labels.items())}


def items(labels: Mapping[str, Any] | None) -> list[tuple[int, Any]]:
    """The labels of a JSON object, whose keys can only be text, by number; background is none."""
    return [(int(value), name) for value, name in (labels or {}).items() if int(value)]


def with_label_file(
    case: str, ct: Path, label_file: Path | None, labels: Mapping[int, str], split: str, content: Mapping[str, Any]
) -> CaseRecord:
    """A case of a data set that describes all its cases at once; without labels where the file is not there."""
    labelled = label_file is not None and label_file.is_file()
    return CaseRecord(
        case=case,
        ct=ct,
        labels=named(labels) if labelled else {},
        label_file=label_file if labelled else None,
        split=split,
        source=content.get("reference") or content.get("name") or "",
        licence=content.get("licence") or content.get("license") or "",
    )
