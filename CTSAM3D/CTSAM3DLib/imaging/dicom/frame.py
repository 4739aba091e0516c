"""One image plane of a DICOM file: where it lies, how its values become HU, and what tells series and phases apart.

A file holds one plane (CT Image Storage) or many (Enhanced CT; the facts of a frame then stand in functional groups,
DICOM PS3.3 C.7.6.16). Everything above this file knows planes alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from CTSAM3DLib.errors import VolumeError

LOCALIZER = "LOCALIZER"
_NOT_HU = ("OD", "HGL", "MGML", "Z_EFF", "ED", "EDW", "PCT", "IMOT")  # PS3.3 C.11.1.1.2; "US" is "unspecified"
_PHASE_TAGS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "StackID",
    "FrameAcquisitionNumber",
    "NominalPercentageOfCardiacPhase",
    "ConvolutionKernel",
    "KVP",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ImageType",
)
"""What can tell phases or stacks of one series apart, the likeliest first."""


@dataclass(frozen=True)
class Frame:
    """A plane: rows by columns voxels whose first lies at `position` (x, y, z in LPS mm).

    Attributes:
        file, index: where the pixels are; the index counts the frames of the file from 0.
        position: of the first voxel's centre, LPS mm; None where the file does not say.
        row, column: unit vectors along which columns and rows are counted; None where the file does not say.
        spacing: mm between rows, and between columns; None where the file does not say.
        slope, intercept: HU = slope * stored value + intercept.
        phase: values of `_PHASE_TAGS` as text, empty where absent.

    """

    file: Path
    index: int
    rows: int
    columns: int
    position: tuple[float, float, float] | None
    row: tuple[float, float, float] | None
    column: tuple[float, float, float] | None
    spacing: tuple[float, float] | None
    slope: float
    intercept: float
    unit: str
    is_localizer: bool
    instance: int
    phase: tuple[str, ...]
    thickness: float | None

    @property
    def normal(self) -> NDArray[np.float64]:
        """The unit vector across the plane."""
        assert self.row is not None
        assert self.column is not None
        return np.cross(self.row, self.column)


@dataclass(frozen=True)
class SeriesHeader:
    """What a file says of the series that it belongs to."""

    uid: str
    study_uid: str
    modality: str
    number: str
    description: str
    date: str


def read_header(path: Path) -> Dataset | None:
    """The elements of a DICOM image file but for its pixels; None where it is no DICOM file, or has no pixels.

    Files without the 128 bytes of preamble, and without file meta information, are read too.
    """
    try:
        with path.open("rb") as file:
            start = file.read(132)
            if start[128:] != b"DICM" and not _begins_like_dicom(start):
                return None
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        return dataset if "Rows" in dataset and "SOPClassUID" in dataset else None
    except Exception:  # damaged bytes make pydicom raise nearly anything
        return None


def series_of(dataset: Dataset) -> SeriesHeader:
    """The series that a file belongs to."""
    return SeriesHeader(
        uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        modality=_text(dataset, "Modality") or "?",
        number=_text(dataset, "SeriesNumber"),
        description=_text(dataset, "SeriesDescription"),
        date=_text(dataset, "AcquisitionDate") or _text(dataset, "SeriesDate") or _text(dataset, "StudyDate"),
    )


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """The planes of a file, in the order of the file. Raises VolumeError where its elements contradict one another."""
    count = int(dataset.get("NumberOfFrames") or 1)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None and len(per_frame) != count:
        raise VolumeError(
            f"{path.name} says that it has {count} frames, and describes {len(per_frame)}; export the CT again."
        )
    shared = dataset.get("SharedFunctionalGroupsSequence")
    of_all = shared[0] if shared else Dataset()
    return [
        _frame(dataset, path, index, Dataset() if per_frame is None else per_frame[index], of_all, count)
        for index in range(count)
    ]


def phase_names() -> Iterator[tuple[int, str]]:
    """The places of `Frame.phase` with the names of what stands there."""
    return enumerate(_PHASE_TAGS)


def _frame(dataset: Dataset, path: Path, index: int, own: Dataset, shared: Dataset, count: int) -> Frame:
    def found(group: str, name: str) -> Any:
        """An element of a functional group of this frame, else of all frames, else of the file."""
        for groups in (own, shared):
            sequence = groups.get(group)
            if sequence and sequence[0].get(name) is not None:
                return sequence[0].get(name)
        return dataset.get(name)

    position = _numbers(found("PlanePositionSequence", "ImagePositionPatient"), 3)
    if count > 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        position = None  # one position for many frames says nothing of the others
    orientation = _numbers(found("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _numbers(found("PixelMeasuresSequence", "PixelSpacing"), 2)
    thickness = _numbers(found("PixelMeasuresSequence", "SliceThickness"), 1)
    slope = _numbers(found("PixelValueTransformationSequence", "RescaleSlope"), 1)
    intercept = _numbers(found("PixelValueTransformationSequence", "RescaleIntercept"), 1)
    image_type = found("CTImageFrameTypeSequence", "FrameType") or dataset.get("ImageType") or ()
    instance = dataset.get("InstanceNumber")
    return Frame(
        file=path,
        index=index,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position=None if position is None else (position[0], position[1], position[2]),
        row=None if orientation is None else (orientation[0], orientation[1], orientation[2]),
        column=None if orientation is None else (orientation[3], orientation[4], orientation[5]),
        spacing=None if spacing is None else (spacing[0], spacing[1]),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        unit=str(found("PixelValueTransformationSequence", "RescaleType") or ""),
        is_localizer=LOCALIZER in [str(part).upper() for part in image_type],
        instance=int(instance) if instance not in (None, "") else 0,
        phase=tuple(_phase(tag, found, image_type) for tag in _PHASE_TAGS),
        thickness=thickness[0] if thickness else None,
    )


def is_hu(frame: Frame) -> bool:
    """Whether the rescaled values are Hounsfield units, as far as the file says."""
    return frame.unit.upper() not in _NOT_HU


def _phase(tag: str, found: Any, image_type: Any) -> str:
    if tag == "ImageType":
        return "\\".join(str(part) for part in image_type)
    group = {"KVP": "CTXRayDetailsSequence", "ConvolutionKernel": "CTReconstructionSequence"}.get(
        tag, "FrameContentSequence"
    )
    value = found(group, tag)
    return "" if value is None else str(value)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None."""
    if value is None or value == "":
        return None
    try:
        parts = [float(part) for part in (value if isinstance(value, (list, tuple)) or count > 1 else [value])]
    except (TypeError, ValueError):
        return None
    return tuple(parts) if len(parts) == count and all(map(math.isfinite, parts)) else None


def _text(dataset: Dataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip()


def _begins_like_dicom(start: bytes) -> bool:
    """Whether a file without a preamble begins with an element of group 0002 or 0008, little or big endian."""
    return len(start) >= 8 and start[:4] in (
        b"\x02\x00\x00\x00",
        b"\x02\x00\x01\x00",
        b"\x02\x00\x02\x00",
        b"\x08\x00\x00\x00",
        b"\x08\x00\x01\x00",
        b"\x08\x00\x05\x00",
        b"\x08\x00\x08\x00",
        b"\x08\x00\x16\x00",
        b"\x00\x08\x00\x05",
        b"\x00\x08\x00\x08",
        b"\x00\x08\x00\x16",
    )
