"""The record of a case: one CT of a data set and its labels, the same for every layout."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume

SAME_GRID_MM = 0.1
"""mm. Tolerance for headers of one grid that different tools have rounded differently."""


@dataclass(frozen=True)
class CaseRecord:
    """One CT of a data set and its labels, none of it read yet.

    Attributes:
        labels: value in the label map to name of the structure; empty where the CT has no labels. A value of the map
            that is not here is no structure.
        label_file: the label map, or
        mask_files: value to binary file, where every structure has its own.
        tissues, tissue_file: a second label map, of tissues that the structures of the first are part of.
        split: "train", "val", "test", or "" where the data set does not say.
        region, patient: what the case shows, and whom; "" where the data set does not say. Cases of one patient stay on
            one side of every split.
        defect: why the case cannot be used, where that is known of it; "" for any other.

    """

    case: str
    ct: Path
    labels: dict[int, str] = field(default_factory=dict)
    label_file: Path | None = None
    mask_files: dict[int, Path] = field(default_factory=dict)
    tissues: dict[int, str] = field(default_factory=dict)
    tissue_file: Path | None = None
    split: str = ""
    source: str = ""
    licence: str = ""
    labels_made_by: str = ""
    region: str = ""
    patient: str = ""
    defect: str = ""

    @property
    def names(self) -> list[str]:
        """The names of all structures and tissues that can be labelled in this case."""
        return sorted({*self.labels.values(), *self.tissues.values()})

    def label_maps(self, ct: Volume) -> dict[str, Volume]:
        """Read "labels" and "tissue", those that there are, as uint8 or uint16 on the grid of the CT.

        Masks are merged in ascending order of their values, later over earlier.
        Raises VolumeError: a file cannot be read, holds no integers, or lies on another grid than the CT.
        """
        maps = {}
        if self.label_file:
            maps["labels"] = read_labels(self.label_file, ct)
        elif self.mask_files:
            merged = np.zeros(ct.array.shape, np.min_scalar_type(max(self.mask_files)))
            for value, path in sorted(self.mask_files.items()):
                merged[read_labels(path, ct).array != 0] = value
            maps["labels"] = Volume(merged, ct.geometry, self.case)
        if self.tissue_file:
            maps["tissue"] = read_labels(self.tissue_file, ct)
        return maps

    def label_map(self) -> Volume:
        """Read the label map alone, on the CT's grid; VolumeError as in `label_maps`, and where there are no labels."""
        maps = self.label_maps(Volume.read(self.ct))
        if "labels" not in maps:
            raise VolumeError(f"{self.case} has no labels; choose a case that has.")
        return maps["labels"]

    def files(self) -> dict[str, Path]:
        """All files of the case by role."""
        files = {"ct": self.ct, "labels": self.label_file, "tissue": self.tissue_file}
        masks = {f"label {value}": path for value, path in sorted(self.mask_files.items())}
        return {part: path for part, path in files.items() if path} | masks

    def content_hash(self) -> str:
        """SHA-256 of the contents of all files, hexadecimal. Raises VolumeError where a file cannot be read."""
        digest = hashlib.sha256()
        for part, path in self.files().items():
            digest.update(part.encode())
            try:
                with path.open("rb") as file:
                    while block := file.read(2**20):
                        digest.update(block)
            except OSError as error:
                raise VolumeError(f"{path} cannot be read ({error.strerror}); restore the file.") from error
        return digest.hexdigest()


def read_labels(path: Path, ct: Volume) -> Volume:
    """Read a label map as uint8 or uint16 on the CT's grid.

    Raises VolumeError: the file cannot be read, holds what is no whole number from 0 on, or lies on another grid.
    """
    labels = Volume.read(path)
    if not labels.geometry.is_close(ct.geometry, SAME_GRID_MM):
        raise VolumeError(f"{path} lies on another grid than its CT; resample it onto the CT's.")
    return Volume(whole_numbers(labels, path).array, ct.geometry, labels.name)


def whole_numbers(labels: Volume, path: Path) -> Volume:
    """Return a label map as uint8 or uint16. Raises VolumeError, naming its file, where it holds what is no label."""
    low, high = labels.array.min(), labels.array.max()
    whole = labels.array.astype(np.min_scalar_type(int(high))) if 0 <= low <= high <= 65535 else None
    if whole is None or not np.array_equal(whole, labels.array):
        raise VolumeError(f"{path} holds values from {low:g} to {high:g} that are not all labels; give whole numbers.")
    return Volume(whole, labels.geometry, labels.name)
