"""JSON files with a list of training: the Medical Segmentation Decathlon's (MSD) own, and MONAI's datalists.

MSD: http://medicaldecathlon.com. MONAI: `monai.data.load_decathlon_datalist`, and the lists of the VISTA project, which
have the test cases' labels, folds, and the names of labels under another key.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from CTSAM3DLib.errors import VolumeError
from training.data.datasets.description import items, stem, with_label_file
from training.data.datasets.records import CaseRecord

SPLITS = Path(__file__).with_name("splits.yaml")
HELD_OUT_FOLD = 0
_NAMES = ("labels", "original_label_dict", "label_dict")
_PARTS = {"training": "train", "validation": "val", "testing": "test", "test": "test"}


def is_datalist(content: Any) -> bool:
    """Whether this is the content of a datalist."""
    return isinstance(content, dict) and isinstance(content.get("training"), list)


def cases(folder: Path, content: dict[str, Any]) -> Iterator[CaseRecord]:
    """The cases of the list; paths are relative to its folder.

    Training cases of the first fold are "val", as MONAI holds it out first. Where there are no folds, cases of MSD's
    Pancreas and Colon have the split of the paper's Table 3 (`published_splits`). MSD's own test cases have no labels.
    """
    key = next((key for key in _NAMES if content.get(key)), _NAMES[0])
    if key not in content:
        raise VolumeError(f'The datalist in {folder} names no labels; add "labels": {{"1": "liver"}} and so on.')
    labels = {value: name for value, name in items(content[key]) if name != "background"}
    published = published_splits()
    for part, split in _PARTS.items():
        for entry in content.get(part, []):
            files = {"image": entry} if isinstance(entry, str) else entry
            ct = folder / files["image"]
            label_file = folder / files["label"] if part == "training" or "label" in files else None
            held_out = "fold" in files and files["fold"] == HELD_OUT_FOLD
            own_split = "val" if held_out else split
            if part == "training" and "fold" not in files:
                own_split = published.get(stem(ct), split)
            yield with_label_file(stem(ct), ct, label_file, labels, own_split, content)


@cache
def published_splits() -> dict[str, str]:
    """Case of MSD to "val" or "test" in fold 0 of 3DSAM-adapter, which the paper's Table 3 follows."""
    table = yaml.safe_load(SPLITS.read_text(encoding="utf-8"))
    return {
        f"{task}_{number}": split
        for task, splits in table.items()
        for split, numbers in splits.items()
        for number in numbers.split()
    }
