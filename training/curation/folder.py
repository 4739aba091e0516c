"""The curated folder: its paths, the curated cases, and the quarantine.

ct/CASE.nii.gz, label/CASE.nii.gz     the data set, as dataset.json lists it; edits beside, label/CASE-edit-1.nii.gz
cases/CASE.json                       written last: the case is done, and its figures
review/CASE/                          pictures, and a scene for Slicer
queue.csv, audit.jsonl                who has to look at what, and who did
quarantine.csv                        what was kept out, and why
report.md, report.json                the whole in figures and pictures
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError, OutputError


@dataclass(frozen=True)
class CuratedCase:
    """A case that is done.

    Attributes:
        key: hash of all that it was made of; another key is another result.
        body_voxels: that the annotated ratio counts, and of these
        labelled_before, labelled_merged, labelled_after: those with own labels, with tissues too, and after clean-up.
        doubtful_voxels: tissue beside own labels with HU that the tissue cannot have.
        voxels: of each label.
        notes: sentences on what is odd about it.

    """

    case: str
    key: str
    split: str
    source: str
    licence: str
    labels_made_by: str
    body_voxels: int
    labelled_before: int
    labelled_merged: int
    labelled_after: int
    doubtful_voxels: int
    voxels: Mapping[str, int]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def ratio_before(self) -> float:
        """Share of the body that is labelled without curation."""
        return self.labelled_before / max(self.body_voxels, 1)

    @property
    def ratio_after(self) -> float:
        """Share of the body that is labelled."""
        return self.labelled_after / max(self.body_voxels, 1)


@dataclass(frozen=True)
class KeptOut:
    """A case in quarantine."""

    case: str
    reason: str
    file: str = ""


@dataclass(frozen=True)
class CuratedFolder:
    """Paths of the folder, and reading and writing of its records; all files are written atomically."""

    root: Path

    def prepare(self) -> None:
        """Create the folders, and remove unfinished files of a killed run. Raises OutputError."""
        try:
            for name in ("ct", "label", "cases", "review"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            for place, folders, _ in os.walk(self.root):
                for unfinished in filter(_is_unfinished, folders):
                    shutil.rmtree(Path(place, unfinished), ignore_errors=True)
        except OSError as error:
            raise OutputError(f"{self.root} cannot be made ({error.strerror}); choose another folder.") from error

    def ct(self, case: str) -> Path:
        """The CT in RAI."""
        return self.root / "ct" / f"{case}.nii.gz"

    def labels(self, case: str, edit: int = 0) -> Path:
        """The labels: as curated, or as edited for the first, second... time."""
        return self.root / "label" / f"{case}{_suffix(edit)}.nii.gz"

    def overlay(self, case: str, edit: int = 0) -> Path:
        """The picture of the labels."""
        return self.root / "review" / case / f"overlay{_suffix(edit)}.png"

    def scene(self, case: str) -> Path:
        """The scene for Slicer."""
        return self.root / "review" / case / f"{case}.mrml"

    def segmentation(self, case: str) -> Path:
        """The segmentation in the scene."""
        return self.root / "review" / case / f"{case}.seg.nrrd"

    def figures(self, case: str, edit: int = 0) -> Path:
        """The figures of the labels; their file marks the case as done."""
        if edit:
            return self.root / "review" / case / f"figures{_suffix(edit)}.json"
        return self.root / "cases" / f"{case}.json"

    @property
    def queue(self) -> Path:
        """The queue of cases for review."""
        return self.root / "queue.csv"

    @property
    def audit(self) -> Path:
        """The log of decisions."""
        return self.root / "audit.jsonl"

    @property
    def quarantine(self) -> Path:
        """The list of cases in quarantine."""
        return self.root / "quarantine.csv"

    def relative(self, path: Path) -> str:
        """A path relative to the folder, as its files state it."""
        return path.relative_to(self.root).as_posix()

    def done(self, case: str, edit: int = 0) -> CuratedCase | None:
        """The record of a case; None where it is not done. Raises CTSAM3DError for a malformed file."""
        path = self.figures(case, edit)
        if not path.is_file():
            return None
        try:
            return CuratedCase(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CTSAM3DError(f"{path} is not a record of a curated case; delete it, and run again.") from error

    def all_done(self) -> list[CuratedCase]:
        """All cases that are done, by name."""
        found = (self.done(path.stem) for path in sorted((self.root / "cases").glob("*.json")))
        return [record for record in found if record]

    def write_done(self, record: CuratedCase, edit: int = 0) -> None:
        """Record that a case, or an edit of it, is done."""
        write_json(self.figures(record.case, edit), asdict(record))

    def kept_out(self) -> list[KeptOut]:
        """The cases in quarantine."""
        return [KeptOut(**row) for row in read_csv(self.quarantine)]

    def write_kept_out(self, cases: Iterable[KeptOut]) -> None:
        """List the cases in quarantine."""
        rows = [asdict(entry) for entry in sorted(cases, key=lambda entry: (entry.case, entry.reason))]
        write_csv(self.quarantine, ("case", "reason", "file"), rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV atomically. Raises OutputError."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _is_unfinished(folder: str) -> bool:
    return folder.startswith(".writing-")  # as `atomic_write` names them


def _suffix(edit: int) -> str:
    return f"-edit-{edit}" if edit else ""
