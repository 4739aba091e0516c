"""Notes on the labels of single cases: origin, quality and completeness (case_notes.yaml)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from training.anatomy import canonical

FAIR_WEIGHT, UNSURE_WEIGHT = 0.5, 0.25


@dataclass(frozen=True)
class CaseNotes:
    """Notes on the labels of a case; the defaults claim nothing.

    Labels are named as in `training.anatomy.canonical`, or by patterns in which `*` stands for any characters.

    Attributes:
        made_by: "hand" or "model".
        complete: whether every class with a label is labelled wherever it is in view, except
        incomplete: classes or groups of classes with unlabelled parts in view; a name of both is the class.
        fair: labels of lower quality.
        unsure: labels of doubtful quality.
        means: label to a more precise name, without the side.
        holds: label to classes or groups that its voxels can have as well.
        one_sided: whether only one side of the body is in view, without the labels naming the side.

    """

    made_by: str = "hand"
    complete: bool = False
    incomplete: tuple[str, ...] = ()
    fair: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    means: Mapping[str, str] = field(default_factory=dict)
    holds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    one_sided: bool = False

    def meaning(self, label: str) -> str:
        """The precise name of a label in this case."""
        return next((name for pattern, name in self.means.items() if matches(label, [pattern])), label)

    def also(self, label: str) -> list[str]:
        """Classes or groups that voxels of the label can have besides its meaning."""
        return [name for pattern, names in self.holds.items() if matches(label, [pattern]) for name in names]

    def is_sure(self, label: str) -> bool:
        """Whether the label is good or fair."""
        return not matches(label, self.unsure)

    def weight(self, label: str) -> float:
        """Weight of a voxel of the label in the losses."""
        if not self.is_sure(label):
            return UNSURE_WEIGHT
        return FAIR_WEIGHT if matches(label, self.fair) else self.weight_unlabelled

    @property
    def weight_unlabelled(self) -> float:
        """Weight of an unlabelled voxel in the losses."""
        return FAIR_WEIGHT if self.made_by == "model" else 1.0


def matches(label: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern matches the label."""
    return any(fnmatchcase(canonical(label), pattern) for pattern in patterns)


def case_notes(case: str) -> CaseNotes:
    """The notes of a case; by default its labels are made by hand and not complete."""
    return _notes("cases", case)


def atlas_notes(atlas: str) -> CaseNotes:
    """The notes of an atlas; the defaults are those of a case."""
    return _notes("atlases", atlas)


@cache
def noted() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """The content of case_notes.yaml: under "cases" and "atlases", name or pattern to what is known."""
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def _notes(section: str, name: str) -> CaseNotes:
    given = next((given for pattern, given in noted()[section].items() if fnmatchcase(name, pattern)), None)
    if given is None:
        return CaseNotes()
    notes: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return CaseNotes(**{"complete": True} | notes)
