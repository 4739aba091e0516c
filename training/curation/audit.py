"""The audit log: decisions on cases with person and time; append-only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError

Action = Literal["accepted", "edited", "rejected"]
OPEN = "open"
"""Status of a case without a decision."""


@dataclass(frozen=True)
class Decision:
    """One line of the log.

    Attributes:
        when: UTC, ISO 8601.
        reason: why a case was rejected; may be empty.
        file, file_hash: what was imported, and its sha256.
        before, after: sha256 of the label files that were valid before and since.
        changed: label to voxels that it gained and lost, [gained, lost].

    """

    when: str
    who: str
    case: str
    action: Action
    before: str
    after: str
    reason: str = ""
    file: str = ""
    file_hash: str = ""
    changed: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReviewState:
    """The latest decision on a case, and its number of edits."""

    status: str = OPEN
    edits: int = 0


@dataclass(frozen=True)
class AuditLog:
    """A file of JSON lines."""

    path: Path

    def decisions(self) -> list[Decision]:
        """All entries, the oldest first. Raises CTSAM3DError for a malformed line."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        try:
            return [Decision(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise CTSAM3DError(f"{self.path} has a line that is no decision ({error}); restore the file.") from error

    def add(self, decision: Decision) -> None:
        """Append an entry atomically. Raises OutputError."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        with atomic_write(self.path) as temporary:
            temporary.write_text(f"{text}{json.dumps(asdict(decision))}\n", encoding="utf-8")

    def states(self) -> dict[str, ReviewState]:
        """The state of every case with a decision."""
        found: dict[str, ReviewState] = {}
        for decision in self.decisions():
            edits = found[decision.case].edits if decision.case in found else 0
            found[decision.case] = ReviewState(decision.action, edits + (decision.action == "edited"))
        return found
