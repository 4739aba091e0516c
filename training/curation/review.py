"""The review by people: the queue, decisions, and corrected labels.

Nothing is overwritten: an edit lies beside the labels as curated, and its line in the audit log is what makes it valid.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.audit import OPEN, Action, AuditLog, Decision, ReviewState
from training.curation.body import body_of
from training.curation.case import draw_case, measured
from training.curation.corrected import read_corrected
from training.curation.folder import CuratedCase, CuratedFolder, read_csv, write_csv, write_json
from training.curation.merge import is_tissue

QUEUE_COLUMNS = (
    *("case", "decision", "status", "ratio_before", "ratio_after", "doubtful_voxels"),
    *("labels", "overlay", "scene", "notes"),
)
BY_HAND: tuple[Action, ...] = ("accepted", "rejected")
"""What a person may write into the queue's column "decision", which is empty otherwise."""


def current_cases(folder: CuratedFolder) -> list[tuple[CuratedCase, ReviewState]]:
    """All cases as they are now, edits among them, and what was decided; by name. Raises CTSAM3DError."""
    states = AuditLog(folder.audit).states()
    cases = []
    for curated in folder.all_done():
        state = states.get(curated.case, ReviewState())
        cases.append((folder.done(curated.case, state.edits) or curated, state))
    return cases


def write_queue(folder: CuratedFolder) -> None:
    """List all cases: those that nobody has decided on first, and of these the ones with the most doubt first."""
    rows = []
    cases = current_cases(folder)
    for case, state in sorted(cases, key=lambda entry: (entry[1].status != OPEN, -entry[0].doubtful_voxels)):
        paths = folder.labels(case.case, state.edits), folder.overlay(case.case, state.edits), folder.scene(case.case)
        files = dict(zip(("labels", "overlay", "scene"), map(folder.relative, paths), strict=True))
        ratios = {"ratio_before": f"{case.ratio_before:.4f}", "ratio_after": f"{case.ratio_after:.4f}"}
        row = {"case": case.case, "status": state.status, "doubtful_voxels": case.doubtful_voxels}
        rows.append({**row, **ratios, **files, "notes": " ".join(case.notes)})
    write_csv(folder.queue, QUEUE_COLUMNS, rows)


def adopt_decisions(folder: CuratedFolder, who: str) -> list[Decision]:
    """Log the decisions that somebody wrote into the queue, and return them.

    Raises CTSAM3DError where something else stands there; what stands before it is logged.
    """
    states = AuditLog(folder.audit).states()
    adopted = []
    for row in read_csv(folder.queue):
        case, written = row.get("case") or "", (row.get("decision") or "").strip().lower()
        action = next((action for action in BY_HAND if action == written), None)
        if written and action is None:
            raise CTSAM3DError(
                f'The decision on {case} in {folder.queue} is "{written}"; write {" or ".join(BY_HAND)}.'
            )
        if action and states.get(case, ReviewState()).status != action:
            adopted.append(decide(folder, case, action, who, reason=f"written into {folder.queue.name}"))
    return adopted


def decide(folder: CuratedFolder, case: str, action: Action, who: str, reason: str = "") -> Decision:
    """Log that somebody accepts or rejects a case as it is now. Raises CTSAM3DError where there is no such case."""
    _known(folder, case)
    labels = _file_hash(folder.labels(case, _edits(folder, case)))
    decision = Decision(when=_now(), who=who, case=case, action=action, before=labels, after=labels, reason=reason)
    AuditLog(folder.audit).add(decision)
    return decision


def import_corrected(folder: CuratedFolder, case: str, file: Path, who: str) -> Decision:
    """Take corrected labels of a case in place of those that it has. Raises CTSAM3DError; the case is then as before.

    The corrected labels need not keep the own labels of the data set; the log says how many voxels of which changed.
    """
    curated = _known(folder, case)
    edits = _edits(folder, case)
    ct = Volume.read(folder.ct(case))
    before = Volume.read(folder.labels(case, edits)).array
    labels = read_corrected(file, ct)
    as_curated = Volume.read(folder.labels(case)).array
    own = np.where(is_tissue(as_curated), 0, as_curated)
    body = body_of(ct.array, own, ct.geometry.spacing[::-1])
    edited = dataclasses.replace(curated, **measured(ct.array, labels.array, body))
    edit = edits + 1
    labels.write(folder.labels(case, edit))
    draw_case(folder, edited, ct, labels, body, edit)
    folder.write_done(edited, edit)
    decision = Decision(
        when=_now(),
        who=who,
        case=case,
        action="edited",
        before=_file_hash(folder.labels(case, edits)),
        after=_file_hash(folder.labels(case, edit)),
        file=str(file),
        file_hash=_file_hash(file),
        changed=_changed(before, labels.array),
    )
    AuditLog(folder.audit).add(decision)
    return decision


def write_dataset(folder: CuratedFolder) -> None:
    """List all cases that were not rejected in dataset.json, in the layout of `training.data.datasets.own`."""
    entries = []
    for case, state in current_cases(folder):
        if state.status != "rejected":
            entries.append(_entry(folder, case, state))
    write_json(folder.root / "dataset.json", entries)


def _entry(folder: CuratedFolder, case: CuratedCase, state: ReviewState) -> dict[str, Any]:
    values = {value: name for value, name in anatomy.EXTENDED.items() if name in case.voxels}
    return {
        "case": case.case,
        "ct": folder.relative(folder.ct(case.case)),
        "label": folder.relative(folder.labels(case.case, state.edits)),
        "labels": {value: {"name": name, "voxels": case.voxels[name]} for value, name in values.items()},
        "split": case.split,
        "source": case.source,
        "licence": case.licence,
        "labels_made_by": case.labels_made_by + ("; corrected in review" if state.edits else ""),
        "review": state.status,
    }


def _known(folder: CuratedFolder, case: str) -> CuratedCase:
    curated = folder.done(case)
    if curated is None:
        raise CTSAM3DError(f"{folder.root} has no curated case {case}; see queue.csv for those that there are.")
    return curated


def _edits(folder: CuratedFolder, case: str) -> int:
    return AuditLog(folder.audit).states().get(case, ReviewState()).edits


def _changed(before: np.ndarray, after: np.ndarray) -> Mapping[str, tuple[int, int]]:
    """Label to voxels gained and lost, of the labels where there are any."""
    differs = before != after
    gained, lost = (np.bincount(labels[differs], minlength=256) for labels in (after, before))
    return {
        name: (int(gained[value]), int(lost[value]))
        for value, name in anatomy.EXTENDED.items()
        if gained[value] or lost[value]
    }


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
