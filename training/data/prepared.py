"""A preprocessed data set in one compressed file that NumPy alone can open.

`python -m training.prepare DATA FILE` writes it (`training/prepare.py`). Every case lies on the model's grid, along L,
P and S; HU are clipped to the model's window and quantised. Arrays are (z, y, x).
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import VolumeError

FORMAT = "ctsam3d-prepared-1"
ATLAS_PREFIX = "atlas-"
"""Prefix of the names of cases made from atlases."""
STEP_HU = 4
"""HU. Default quantisation step; the noise of a CT is several times as large."""


@dataclass(frozen=True)
class PreparedCase:
    """One case: a CT with label maps, or an atlas, a label map without a CT.

    Attributes:
        name, patient, region: as in the data set; cases of one patient share `patient`.
        source: "ct", "phantom" (a synthetic CT) or "atlas" (label maps alone; HU are synthesised for each sample).
        names: label value to the structure's name.
        licence: licence of CT and labels.
        hu: int16 (z, y, x), multiples of `Prepared.step_hu`; None for an atlas.
        labels: uint8 of the same shape, 0 for unlabelled voxels.
        pieces: uint16 supervoxels of the same shape, used as pseudo-labels; None where there are none.

    """

    name: str
    patient: str
    region: str
    source: str
    names: dict[int, str]
    labels: NDArray[np.uint8]
    hu: NDArray[np.int16] | None = None
    pieces: NDArray[np.uint16] | None = None
    licence: str = ""


@dataclass(frozen=True)
class Prepared:
    """All cases of a data set on one grid.

    Attributes:
        spacing: voxel size of the isotropic grid, mm.
        window: HU window of the model; values are clipped to it.
        cases: in the order of the data set.
        kind_hu: HU of each class in the labelled CTs, for synthesising the CT of atlases: mean, standard deviation
            within a patient, and between patients (`training/data/kind_hu.py`).
        step_hu: quantisation step, HU.

    """

    spacing: float
    window: tuple[float, float]
    cases: tuple[PreparedCase, ...]
    kind_hu: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    step_hu: int = STEP_HU

    def without(self, patients: Iterable[str]) -> Prepared:
        """The data set without these patients. Raises VolumeError for an unknown name, which may be misspelt."""
        excluded = set(patients)
        if unknown := sorted(excluded - {case.patient for case in self.cases}):
            raise VolumeError(f"The prepared data have no patient {', '.join(unknown)}; correct the names.")
        return dataclasses.replace(self, cases=tuple(case for case in self.cases if case.patient not in excluded))

    def without_any_of(self, patients: Iterable[str]) -> Prepared:
        """The data set without these patients, of whom some may be absent already."""
        return self.without({case.patient for case in self.cases} & set(patients))

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises OutputError."""
        fields = ("name", "patient", "region", "source", "names", "licence")
        content = {
            "format": FORMAT,
            "spacing": self.spacing,
            "window": self.window,
            "kind_hu": self.kind_hu,
            "step_hu": self.step_hu,
            "cases": [{name: getattr(case, name) for name in fields} for case in self.cases],
        }
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_LZMA) as archive:
            _put(archive, "content", np.frombuffer(json.dumps(content).encode(), np.uint8))
            for case in self.cases:
                _put(archive, f"labels/{case.name}", case.labels)
                if case.hu is not None:
                    _put(archive, f"hu/{case.name}", _packed(case.hu // self.step_hu))
                if case.pieces is not None:
                    _put(archive, f"pieces/{case.name}", case.pieces)

    @classmethod
    def read(cls, path: Path) -> Prepared:
        """Read a file written by `write`; raises VolumeError where it is missing or of another kind."""
        try:
            with np.load(path) as arrays:
                content = json.loads(arrays["content"].tobytes())
                if content["format"] != FORMAT:
                    raise VolumeError(f"{path} was prepared by another version; prepare the data again.")
                step_hu = content["step_hu"]
                cases = tuple(_case(fields, arrays, step_hu) for fields in content["cases"])
        except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise VolumeError(f"{path} is no prepared data set ({error}); write it by training.prepare.") from error
        kind_hu = {kind: (mean, within, between) for kind, (mean, within, between) in content["kind_hu"].items()}
        low, high = content["window"]
        return cls(content["spacing"], (low, high), cases, kind_hu, step_hu)


def quantised(hu: NDArray[np.int16], window: tuple[float, float], step_hu: int = STEP_HU) -> NDArray[np.int16]:
    """HU clipped to the window and rounded to multiples of `step_hu`."""
    clipped = np.clip(hu, *window).astype(np.float32)
    return (np.rint(clipped / step_hu) * step_hu).astype(np.int16)


def _packed(steps: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Differences along x, low bytes and high bytes apart, (2, z, y, x), which compresses best."""
    change = np.diff(steps, axis=2, prepend=np.int16(0)).view(np.uint16)
    return np.stack((change & 255, change >> 8)).astype(np.uint8)


def _unpacked(planes: NDArray[np.uint8]) -> NDArray[np.int16]:
    low, high = planes.astype(np.uint16)
    change = (low | high << 8).view(np.int16)
    return np.cumsum(change, axis=2, dtype=np.int16)


def _put(archive: zipfile.ZipFile, name: str, array: NDArray[np.generic]) -> None:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    # A fixed time: the same data give the same file.
    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), written.getvalue(), zipfile.ZIP_LZMA)


def _case(fields: dict, arrays: np.lib.npyio.NpzFile, step_hu: int) -> PreparedCase:
    name = fields["name"]
    packed = arrays.get(f"hu/{name}")
    return PreparedCase(
        **{**fields, "names": {int(value): structure for value, structure in fields["names"].items()}},
        labels=arrays[f"labels/{name}"],
        hu=None if packed is None else _unpacked(packed) * np.int16(step_hu),
        pieces=arrays.get(f"pieces/{name}"),
    )
