"""A case stored for pictures: its CT, the ground truth, and the masks of systems, with TotalSeg++ values.

A folder holds `ct.nii.gz`, `truth.nii.gz`, `mask-1.nii.gz`, ... , all turned to RAI, and `case.json`, which is written
last.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.clicks.simulation import dice
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume


@dataclass(frozen=True)
class PicturedCase:
    """The case, the number of clicks in each structure, and the systems in the order of their masks.

    `runs` are those of the systems, as in the results.
    """

    dataset: str
    case: str
    clicks: int
    systems: tuple[str, ...]
    runs: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> PicturedCase | None:
        """None where the folder holds no complete case. Raises CTSAM3DError for a description that is spoilt."""
        file = folder / DESCRIPTION
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{**content, "systems": tuple(content["systems"]), "runs": tuple(content["runs"])})
        except (ValueError, TypeError, KeyError) as error:
            raise CTSAM3DError(f"{file} does not describe a case for pictures ({error}); delete its folder.") from error

    def write(self, folder: Path) -> None:
        """Write the description, by which the case is complete. Raises OutputError."""
        with atomic_write(folder / DESCRIPTION) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")


DESCRIPTION = "case.json"
CT, TRUTH = "ct.nii.gz", "truth.nii.gz"


def mask_file(number: int) -> str:
    """The file of a system's label map, counted from 1."""
    return f"mask-{number}.nii.gz"


@dataclass(frozen=True)
class Shown:
    """The voxels of a pictured case (z, y, x, in RAI): HU, the true labels, and each system's."""

    hu: NDArray[np.int16]
    truth: NDArray[np.uint8]
    masks: dict[str, NDArray[np.uint8]]
    spacing: tuple[float, float, float]
    """mm, of z, y and x."""


def load(folder: Path, pictured: PicturedCase) -> Shown:
    """Raises VolumeError where a file is missing or spoilt."""
    ct = Volume.read(folder / CT)
    masks = {
        system: np.asarray(Volume.read(folder / mask_file(number)).array, np.uint8)
        for number, system in enumerate(pictured.systems, start=1)
    }
    truth = np.asarray(Volume.read(folder / TRUTH).array, np.uint8)
    x, y, z = ct.geometry.spacing
    return Shown(np.asarray(ct.array, np.int16), truth, masks, (z, y, x))


def mean_dice(truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Mean over the true structures of the Dice of what is shown, in percent.

    Where masks overlapped only one is shown, so this may differ a little from the mean of the results.
    """
    values = np.unique(truth[truth > 0])
    return 100 * float(np.mean([dice(truth == value, mask == value) for value in values]))
