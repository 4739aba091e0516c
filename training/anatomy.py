"""The structures of TotalSeg++ and TotalSegmentator: names, indices, groups, and alternative spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

TABLE: Mapping[str, Any] = MappingProxyType(
    yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
)
"""All sections of anatomy.yaml; `training.vocabulary` reads those of the classes."""

GROUPS: dict[str, tuple[str, ...]] = {group: tuple(members) for group, members in TABLE["structures"].items()}
"""The nine groups of the paper's Fig. 3 and the curated tissues, each with the names of its structures."""

_INDICES: dict[str, tuple[int, int | None]] = {
    name: tuple(indices) for members in TABLE["structures"].values() for name, indices in members.items()
}

TOTALSEG_PLUS_PLUS: dict[int, str] = dict(sorted((v1, name) for name, (v1, _) in _INDICES.items()))
"""Index to name, 1 to 107."""

V1: dict[int, str] = {index: name for index, name in TOTALSEG_PLUS_PLUS.items() if name not in GROUPS["Curated"]}
"""Index to name of TotalSegmentator's first data set, 1 to 104."""

V2: dict[int, str] = dict(
    sorted(
        [(v2, name) for name, (_, v2) in _INDICES.items() if v2]
        + [(v2, name) for name, v2 in TABLE["only_in_v2"].items()]
    )
)
"""Index to name of TotalSegmentator's second data set, 1 to 117."""

EXTENDED: dict[int, str] = {
    **TOTALSEG_PLUS_PLUS,
    **dict(enumerate(TABLE["only_in_v2"], start=len(TOTALSEG_PLUS_PLUS) + 1)),
}
"""Label values of curated maps: TotalSeg++ and, from 108 on, structures that only TotalSegmentator v2 has."""

TISSUE_TYPES: dict[int, str] = {1: "subcutaneous_fat", 2: "visceral_fat", 3: "skeletal_muscle"}
"""Index to name of TotalSegmentator's task of that name, in TotalSeg++ names."""


def index_of(name: str) -> int | None:
    """The index in TotalSeg++ of one of its names; None for any other."""
    return _INDICES[name][0] if name in _INDICES else None


def group_of(name: str) -> str:
    """The group of Fig. 3 that a TotalSeg++ name belongs to; "" for any other."""
    return next((group for group, members in GROUPS.items() if name in members), "")


def category_of(name: str) -> str:
    """One of the 12 categories of the supplement: a group of Fig. 3, or one of the three curated tissues by itself."""
    group = group_of(name)
    return name if group == "Curated" else group


def kind_of(name: str) -> str:
    """A name without its side and number: "kidney" of kidney_left, "vertebrae" of vertebrae_L4.

    Unlike `training.vocabulary`, it treats different spellings of data sets as different.
    """
    numbered = re.match(r"(rib|vertebrae)_", name)
    return numbered[1] if numbered else re.sub(r"_?(left|right)_?", "", name, flags=re.IGNORECASE)


def canonical(spelling: str) -> str:
    """The TotalSeg++ or TotalSegmentator v2 name of a label such as "Right Kidney"; unknown labels are unchanged."""
    return _NAMES.get(_words(spelling), spelling)


def _words(spelling: str) -> tuple[str, ...]:
    """The words of a name in any order and case, without brackets: RightKidney and kidney_right are the same."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", re.sub(r"\(.*?\)", "", spelling))
    return tuple(sorted(word.lower() for word in words))


_NAMES: dict[tuple[str, ...], str] = {
    **{_words(spelling): name for spelling, name in TABLE["spellings"].items()},
    **{_words(name): name for name in (*V2.values(), *TOTALSEG_PLUS_PLUS.values())},
}
