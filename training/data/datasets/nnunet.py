"""nnU-Net v2 raw: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from CTSAM3DLib.errors import VolumeError
from training.data.datasets.description import read_json, with_label_file
from training.data.datasets.records import CaseRecord


def cases(folder: Path, content: dict[str, Any]) -> Iterator[CaseRecord]:
    """Of several folds in splits_final.json, the first. Raises VolumeError where a region has several values."""
    channels, ending = content["channel_names"], content["file_ending"]
    channel = next((number for number, name in channels.items() if name.upper() == "CT"), next(iter(channels)))
    if any(isinstance(value, list) for value in content["labels"].values()):
        raise VolumeError(f"{folder / 'dataset.json'} has regions of several values; name each value by itself.")
    labels = {value: name for name, value in content["labels"].items() if name not in ("background", "ignore")}
    splits_file = folder / "splits_final.json"
    fold = read_json(splits_file)[0] if splits_file.is_file() else {}
    splits = {case: split for split, of_split in fold.items() for case in of_split}
    for part, otherwise in (("Tr", "train"), ("Ts", "test")):
        for ct in sorted(folder.glob(f"images{part}/*_{int(channel):04d}{ending}")):
            case = ct.name[: -len(f"_0000{ending}")]
            yield with_label_file(
                case, ct, folder / f"labels{part}" / f"{case}{ending}", labels, splits.get(case, otherwise), content
            )
