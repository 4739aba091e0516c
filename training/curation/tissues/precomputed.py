"""Tissues from a folder of precomputed masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from CTSAM3DLib.imaging.volume import Volume
from training.anatomy import TISSUE_TYPES
from training.curation.defects import Defect, blaming
from training.curation.orient import to_rai
from training.data.datasets.records import SAME_GRID_MM, whole_numbers

NAMES = ("{case}-tissue.nii.gz", "{case}/tissue_types.nii.gz", "{case}.nii.gz")


@dataclass(frozen=True)
class PrecomputedTissues:
    """One label map of tissue types a case: CASE-tissue.nii.gz, CASE/tissue_types.nii.gz or CASE.nii.gz."""

    folder: Path
    made_by: str = "masks made before"
    notice: str = "tissues: the licence of their masks"

    def file_for(self, case: str) -> Path:
        """Return the file of a case. Raises Defect where there is none."""
        paths = [self.folder / name.format(case=case) for name in NAMES]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise Defect(f"There is no mask of tissues for {case}; put {paths[0].name} there.", str(self.folder))
        return found

    def tissues(self, case: str, ct: Volume, labels: Volume) -> Volume:
        """Return the tissue types of a case; the file may have any orientation, if its grid is the CT's."""
        path = self.file_for(case)
        with blaming(path):
            turned = to_rai(whole_numbers(Volume.read(path), path), labels=True)
        if not turned.geometry.is_close(ct.geometry, SAME_GRID_MM):
            raise Defect(f"{path} lies on another grid than its CT; resample it onto the CT's.", str(path))
        if (highest := int(turned.array.max())) > max(TISSUE_TYPES):
            raise Defect(f"{path} holds the value {highest}; give tissue types, which are 1, 2 and 3.", str(path))
        return Volume(turned.array, ct.geometry, case)
