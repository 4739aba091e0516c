"""Curate one case of a data set into the curated folder."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.body import body_of, in_body
from training.curation.corrected import read_corrected
from training.curation.defects import Defect, blaming
from training.curation.folder import CuratedCase, CuratedFolder
from training.curation.ingest import ingest
from training.curation.merge import clean_up, doubtful, merge
from training.curation.orient import to_rai
from training.curation.overlay import draw_overlay
from training.curation.scene import write_scene
from training.curation.tissues import TissueProvider
from training.data.datasets.records import CaseRecord
from training.data.real_volumes import content_hash

CURATION = "1"
"""Version of the curation; raise it with every change of its output, so that cases are curated again."""


def curate_case(
    record: CaseRecord, root: Path, provider: TissueProvider, lacking: Sequence[str] = (), reviewed: bool = False
) -> CuratedCase:
    """Curate a case unless that is done already; where it fails, what was curated before stays.

    Args:
        record: the case in its data set.
        root: the curated folder.
        provider: where tissues come from.
        lacking: structures that other cases of the data set have masks of, and this one has not.
        reviewed: somebody has decided on the case; it is then left as it is, whatever has changed since.

    Raises Defect where the case cannot be used, OutputError where the folder cannot be written.
    """
    folder = CuratedFolder(root)
    before = folder.done(record.case)
    if before and reviewed:
        return before
    key = _key(record, folder, provider)
    if before and before.key == key:
        return before
    if before:
        _check_not_edited(folder, record.case)
    source = ingest(record)
    ct, own = to_rai(source.ct), to_rai(source.labels, labels=True)
    hu, spacing = ct.array, ct.geometry.spacing[::-1]
    body = body_of(hu, own.array, spacing)
    if not body.any():
        raise Defect(f"There is no body in {record.ct}; look at the CT.", str(record.ct))
    merged = merge(own.array, provider.tissues(record.case, ct, own).array, body)
    labels = Volume(clean_up(hu, merged, body, spacing), ct.geometry, record.case)
    counted = in_body(hu, body)
    curated = CuratedCase(
        case=record.case,
        key=key,
        split=record.split,
        source=record.source,
        licence="; ".join(filter(None, (record.licence, provider.notice))),
        labels_made_by=f"{record.labels_made_by or 'not said'}; tissues: {provider.made_by}",
        labelled_before=int(np.count_nonzero(own.array[counted])),
        labelled_merged=int(np.count_nonzero(merged[counted])),
        notes=[*source.notes, *_note_on(lacking)],
        **measured(hu, labels.array, body),
    )
    folder.figures(record.case).unlink(missing_ok=True)  # from here on the case is not done, until it is again
    ct.write(folder.ct(record.case))
    labels.write(folder.labels(record.case))
    folder.scene(record.case).parent.mkdir(exist_ok=True)
    draw_case(folder, curated, ct, labels, body)
    write_scene(labels, folder.ct(record.case), folder.segmentation(record.case), folder.scene(record.case))
    folder.write_done(curated)
    return curated


def measured(hu: np.ndarray, labels: np.ndarray, body: np.ndarray) -> dict[str, Any]:
    """Return the figures of a CuratedCase that depend on its labels as they are now; arrays are (z, y, x)."""
    counted = in_body(hu, body)
    sizes = np.bincount(labels.ravel(), minlength=max(anatomy.EXTENDED) + 1)
    return {
        "body_voxels": int(np.count_nonzero(counted)),
        "labelled_after": int(np.count_nonzero(labels[counted])),
        "doubtful_voxels": int(np.count_nonzero(doubtful(hu, labels))),
        "voxels": {name: int(sizes[value]) for value, name in anatomy.EXTENDED.items() if sizes[value]},
    }


def draw_case(
    folder: CuratedFolder, curated: CuratedCase, ct: Volume, labels: Volume, body: np.ndarray, edit: int = 0
) -> None:
    """Write the picture of a case as curated, or of an edit of it."""
    titles = (
        f"{curated.case}, own labels: {curated.ratio_before:.1%} of the body",
        f"{'edited' if edit else 'curated'}: {curated.ratio_after:.1%}, {curated.doubtful_voxels} voxels in doubt",
    )
    doubt = doubtful(ct.array, labels.array)
    path = folder.overlay(curated.case, edit)
    draw_overlay(path, ct.array, labels.array, doubt, body, ct.geometry.spacing[::-1], titles)


def _note_on(lacking: Sequence[str]) -> list[str]:
    return [f"It has no mask of {', '.join(lacking)}, which other cases have."] if lacking else []


def _check_not_edited(folder: CuratedFolder, case: str) -> None:
    """Raise Defect where a person's work would be lost by curating the case again."""
    path = folder.segmentation(case)
    if path.is_file() and not _is_as_curated(path, Volume.read(folder.labels(case))):
        raise Defect(f"{case} has to be curated again, but {path} was edited; import or delete that first.", str(path))


def _is_as_curated(segmentation: Path, labels: Volume) -> bool:
    try:
        return np.array_equal(read_corrected(segmentation, labels).array, labels.array)
    except Defect:  # whatever it is, it was not written here
        return False


def _key(record: CaseRecord, folder: CuratedFolder, provider: TissueProvider) -> str:
    """The hash of everything that the curated case depends on."""
    read = dataclasses.replace(record, tissue_file=provider.file_for(record.case))
    with blaming(record.ct):
        content = content_hash(read, folder.root / "cases")
    names = sorted(record.labels.items())
    return hashlib.sha256(repr((CURATION, provider.made_by, record.split, names, content)).encode()).hexdigest()
