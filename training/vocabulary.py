"""The label set shared by all data sets: the classes (*kinds*) that a voxel of a label can have.

A kind (kidney, vertebra, rib) is a structure without its side and number. The table is in anatomy.yaml. A case labels
some kinds and not others, and names of wholes hold several kinds, so a label stands for the set of kinds that its
voxels can be; an unlabelled voxel is background or any kind that the case does not label throughout. Needs numpy and
yaml alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from training.anatomy import TABLE, canonical
from training.data.case_notes import CaseNotes, atlas_notes

BACKGROUND = "background"
VALUES = 256
"""Rows of a label table: the values that a label map of uint8 can hold."""

_GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(kind for kinds in by_members.values() for kind in kinds)
    for group, by_members in TABLE["kinds"].items()
}
_GROUP_OF = {kind: group for group, kinds in _GROUPS.items() for kind in kinds}

KINDS: tuple[str, ...] = (BACKGROUND, *_GROUP_OF)
"""Background and all classes, in the order of anatomy.yaml."""

_INDEX = MappingProxyType({kind: index for index, kind in enumerate(KINDS)})


def leaf_groups() -> dict[str, tuple[str, ...]]:
    """The groups (those of the paper's Fig. 3 and further ones), each with its classes."""
    return dict(_GROUPS)


def group_of_kind(kind: str) -> str:
    """The group of a class; "" for background and unknown classes."""
    return _GROUP_OF.get(kind, "")


@dataclass(frozen=True)
class _Meaning:
    """The meaning of a name without side and number.

    Attributes:
        kinds: what its voxels can be.
        holds: the kinds of which the label has every voxel, on its side.
        members: "single", "paired", "numbered", "numbered_pairs", or "many": when one label is one instance.
        is_term: whether it is a kind, a whole or a region, rather than a member or a piece of a kind.

    """

    kinds: frozenset[str] = frozenset()
    holds: frozenset[str] = frozenset()
    members: str = "many"
    is_term: bool = False


def _expanded(name: str, parts: Sequence[str]) -> frozenset[str]:
    """The classes in a list of classes, groups and wholes; a name of several of these is the class."""
    wholes = {whole: held for by_members in TABLE["wholes"].values() for whole, held in by_members.items()}
    found: set[str] = set()
    for part in parts:
        if part in _GROUPS:
            found.update(_GROUPS[part])
        else:
            found.update(_expanded(part, wholes[part]) if part in wholes and part != name else [part])
    return frozenset(found)


def _meanings() -> dict[str, _Meaning]:
    table: dict[str, _Meaning] = {}
    for by_members in TABLE["kinds"].values():
        for members, kinds in by_members.items():
            table.update({kind: _Meaning(frozenset({kind}), frozenset({kind}), members, True) for kind in kinds})
    for members, wholes in TABLE["wholes"].items():
        for name, parts in wholes.items():
            table[name] = _Meaning(_expanded(name, parts), _expanded(name, parts), members, True)
    for members, regions in TABLE["regions"].items():
        for name, parts in regions.items():
            table[name] = _Meaning(_expanded(name, parts), frozenset({name} & _INDEX.keys()), members, True)
    for members, parts in (*TABLE["members"].items(), ("many", TABLE["pieces"])):
        table.update({part: _Meaning(frozenset({kind}), frozenset({kind}), members) for part, kind in parts.items()})
    return table | {name: table[other] for name, other in TABLE["same"].items()}


_MEANINGS = MappingProxyType(_meanings())

_NO_WORDS = frozenset({"both", "sides"})


def _words(name: str) -> list[str]:
    """The lower-case words of a name, however it joins them: RightParotid, T10-T9-IntervertebralDisc, vertebrae_L3."""
    found = re.findall(r"[CTLS]\d+|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", canonical(name))
    return [word.lower() for word in found if word.lower() not in _NO_WORDS]


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[ctls]?\d+", word) is not None


@cache
def _meaning(name: str) -> _Meaning:
    """Look a name up, with its side or number where the table has an entry for that, else without."""
    words = _words(name)
    bare = [word for word in words if word not in ("left", "right")]
    plain = [word for word in bare if not _is_number(word)]
    for key in ([*bare, side_of(name)], bare, plain, [word for word in plain if word != "muscle"]):
        if "_".join(key) in _MEANINGS:
            return _MEANINGS["_".join(key)]
    return _Meaning()


def kinds_of(name: str) -> frozenset[str]:
    """The classes that a voxel of a label can have; empty for an unknown name."""
    return _meaning(name).kinds


def side_of(name: str) -> str:
    """ "left", "right", or "" where the name has no side."""
    return next((word for word in _words(name) if word in ("left", "right")), "")


def number_of(name: str) -> str:
    """ "L3" of vertebrae_L3, "7" of rib_left_7, "T10-T9" of the disc between those; "" where the name has none."""
    return "-".join(word.upper() for word in _words(name) if _is_number(word))


def is_one(name: str, one_sided: bool = False) -> bool:
    """Whether a label is one instance: rib_left_7 and lung_left are, ribs_7_both_sides and lung_nodules are not.

    one_sided: only one side of the body is in view, so that names need not say which.
    """
    has_side, has_number = one_sided or side_of(name) != "", number_of(name) != ""
    return {
        "single": True,
        "paired": has_side,
        "numbered": has_number,
        "numbered_pairs": has_side and has_number,
        "many": False,
    }[_meaning(name).members]


@dataclass(frozen=True)
class LabelTable:
    """The meaning of the values of a label map for training; row 0 is for unlabelled voxels.

    Attributes:
        allowed: bool (256, len(KINDS)): whether a voxel of the value can be of the kind.
        weight: float32 (256,): how much a voxel of the value counts, 0 where it can be anything.
        instance: bool (256,): whether the voxels of the value are one thing, by `is_one`.

    """

    allowed: np.ndarray
    weight: np.ndarray
    instance: np.ndarray


def label_table(labels: Mapping[int, str], notes: CaseNotes) -> LabelTable:
    """The table of a case's label map, or of its map of tissues, whose table is for what the first leaves unlabelled.

    Raises ValueError where a label's value is not from 1 to 255.
    """
    if wrong := [value for value in labels if not 0 < value < VALUES]:
        raise ValueError(f"The label values {wrong} are not from 1 to {VALUES - 1}; number the labels anew.")
    meanings = {value: _with_side_of(name, notes.meaning(name)) for value, name in labels.items()}
    held = frozenset().union(*(_meaning(name).holds for name in meanings.values()))
    complete = held - _kinds_of_all(notes.incomplete) if notes.complete else frozenset()
    own: dict[str, set[str]] = defaultdict(set)  # the sides on which a complete kind has a label of its own
    for name in meanings.values():
        if _meaning(name).is_term and len(kinds_of(name)) == 1:
            for kind in kinds_of(name) & complete:
                own[kind].add(side_of(name))

    allowed = np.ones((VALUES, len(KINDS)), bool)
    weight = np.zeros(VALUES, np.float32)
    instance = np.zeros(VALUES, bool)
    allowed[0, [_INDEX[kind] for kind in complete]] = False
    weight[0] = notes.weight_unlabelled if complete else 0
    for value, name in meanings.items():
        if kinds := kinds_of(name):
            elsewhere = {kind for kind in kinds if _is_apart(own[kind], side_of(name))}
            can_be = (kinds - elsewhere or kinds) | _kinds_of_all(notes.also(labels[value]))
            allowed[value] = [kind in can_be for kind in KINDS]
            weight[value] = notes.weight(labels[value])
            instance[value] = is_one(name, notes.one_sided) and notes.is_sure(labels[value])
    return LabelTable(allowed, weight, instance)


def _with_side_of(label: str, meaning: str) -> str:
    return meaning if side_of(meaning) or not side_of(label) else f"{meaning}_{side_of(label)}"


def _kinds_of_all(names: Iterable[str]) -> frozenset[str]:
    """The kinds of notes, where the name of a kind is never that of the whole."""
    return frozenset().union(*({name} if name in _INDEX else kinds_of(name) for name in names))


def _is_apart(sides: set[str], side: str) -> bool:
    """Whether a class with its own labels on these sides is excluded from a whole on this side."""
    return bool({"", side} & sides) or sides == {"left", "right"}


def atlas_table(atlas: str, labels: Mapping[int, str]) -> LabelTable:
    """The table of an atlas, from the values and names of its names.json."""
    return label_table(labels, atlas_notes(atlas))
