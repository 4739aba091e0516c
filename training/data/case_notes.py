"""What is known of the labels of single cases: who made them, how good they are, what is left out (case_notes.yaml)."""

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
    """What is known of the labels of a case; as it is by default, next to nothing.

    Labels are named as in `training.anatomy.canonical`, or by patterns in which `*` stands for any characters.

    Attributes:
        made_by: "hand" or "model".
        complete: every kind that the case labels is labelled wherever it is in view, except for
        incomplete: kinds or wholes of which some in view is unlabelled; what is the name of both is the kind.
        fair: labels that are less good.
        unsure: labels to leave out where only good ones are wanted.
        means: label to the name that says better what it is, without the side.
        holds: label to kinds or wholes that its voxels can be as well.
        one_sided: only one side of the body is in view, and the labels do not say which.

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
        """The name that says what the label is in this case."""
        return next((name for pattern, name in self.means.items() if matches(label, [pattern])), label)

    def also(self, label: str) -> list[str]:
        """The kinds or wholes that voxels of the label can be beside what it means."""
        return [name for pattern, names in self.holds.items() if matches(label, [pattern]) for name in names]

    def is_sure(self, label: str) -> bool:
        """Whether the label is good or fair."""
        return not matches(label, self.unsure)

    def weight(self, label: str) -> float:
        """How much a voxel of the label counts."""
        if not self.is_sure(label):
            return UNSURE_WEIGHT
        return FAIR_WEIGHT if matches(label, self.fair) else self.weight_unlabelled

    @property
    def weight_unlabelled(self) -> float:
        """How much a voxel without a label counts: it is what the maker of the labels took for nothing of theirs."""
        return FAIR_WEIGHT if self.made_by == "model" else 1.0


def matches(label: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is that of the label."""
    return any(fnmatchcase(canonical(label), pattern) for pattern in patterns)


def case_notes(case: str) -> CaseNotes:
    """The notes of a case; of one that has none, that its labels were made by hand and nothing is complete."""
    return _notes("cases", case)


def atlas_notes(atlas: str) -> CaseNotes:
    """The notes of an atlas, a label map without a CT; of one that has none, as of a case that has none."""
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
