"""Standard terms for what a segment is: Slicer's own list of general anatomy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import slicer
from trame_slicer.resources import resources_path

_FILE = "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy.term.json"


@dataclass(frozen=True)
class Term:
    """A term with the colour that the list recommends and the text that a segment keeps it as."""

    name: str
    color: tuple[float, float, float]
    terminology: str


def anatomy() -> dict[str, Term]:
    """All terms by their names; those of paired structures with their sides."""
    listed = json.loads((resources_path() / "terminologies" / _FILE).read_text(encoding="utf-8"))
    context = listed["SegmentationCategoryTypeContextName"]
    terms: dict[str, Term] = {}
    for category in listed["SegmentationCodes"]["Category"]:
        for kind in category["Type"]:
            for modifier in kind.get("Modifier") or [None]:
                term = _term(context, category, kind, modifier)
                terms.setdefault(term.name, term)
    return dict(sorted(terms.items()))


def _term(context: str, category: dict[str, Any], kind: dict[str, Any], modifier: dict[str, Any] | None) -> Term:
    side = f", {modifier['CodeMeaning'].lower()}" if modifier else ""
    rgb = (modifier or kind).get("recommendedDisplayRGBValue") or kind.get("recommendedDisplayRGBValue") or (128,) * 3
    red, green, blue = (value / 255 for value in rgb)
    serialized = slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(
        context, *_code(category), *_code(kind), *_code(modifier), "", *_code(None), *_code(None)
    )
    return Term(kind["CodeMeaning"] + side, (red, green, blue), serialized)


def _code(entry: dict[str, Any] | None) -> tuple[str, str, str]:
    if entry is None:
        return "", "", ""
    return entry["CodeValue"], entry["CodingSchemeDesignator"], entry["CodeMeaning"]
