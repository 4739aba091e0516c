"""DICOM CTs made by code: series of one slice a file, and many frames in one file, with whatever is odd about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT, CONVERTED_CT = f"{CT}.1", f"{CT}.2"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SPACING = (0.8, 0.7)
"""mm between rows, and between columns."""


def hu_of(shape: tuple[int, int, int] = (6, 8, 9)) -> np.ndarray:
    """HU (z, y, x) in which every voxel of a plane and every plane is told apart."""
    z, y, x = np.indices(shape)
    return (100 * z - 300 + 9 * y + x).astype(np.int16)


def even(count: int, distance: float = 2.5, first: Sequence[float] = (1.0, 2.0, 3.0)) -> list[np.ndarray]:
    """Positions of axial slices."""
    return [np.add(first, (0, 0, distance * k)) for k in range(count)]


def write_series(
    folder: Path,
    hu: np.ndarray,
    positions: Sequence[Sequence[float]] | None = None,
    series: str = "",
    orientation: Sequence[float] = AXIAL,
    names: Callable[[int], str] = lambda k: f"I{k:03d}",
    scale: Callable[[int], tuple[float, float]] = lambda k: (1.0, -1024.0),
    syntax: UID = ExplicitVRLittleEndian,
    edit: Callable[[int, Dataset], None] = lambda k, file: None,
    **elements: Any,
) -> list[Path]:
    """Write a file for each plane of `hu` (z, y, x); `elements` are further ones of all files, `edit` of a single."""
    folder.mkdir(parents=True, exist_ok=True)
    positions = even(len(hu)) if positions is None else positions
    series = series or generate_uid()
    paths = []
    for k, (plane, position) in enumerate(zip(hu, positions, strict=True)):
        file = _file(CT, series, plane.shape, syntax)
        file.ImagePositionPatient = _decimals(position)
        file.ImageOrientationPatient = _decimals(orientation)
        file.PixelSpacing, file.SliceThickness, file.InstanceNumber = _decimals(SPACING), "2.5", k + 1
        file.RescaleSlope, file.RescaleIntercept = _decimals(scale(k))
        file.RescaleType = "HU"
        file.PixelData = _stored(plane, scale(k))
        for name, value in elements.items():
            setattr(file, name, value)
        edit(k, file)
        paths.append(folder / names(k))
        file.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_frames(
    path: Path,
    hu: np.ndarray,
    positions: Sequence[Sequence[float]] | None = None,
    series: str = "",
    orientation: Sequence[float] = AXIAL,
    scale: Callable[[int], tuple[float, float]] = lambda k: (1.0, -1024.0),
    sop_class: str = ENHANCED_CT,
    content: Callable[[int], dict[str, Any]] = lambda k: {},
    edit: Callable[[Dataset], None] = lambda file: None,
) -> Path:
    """Write one file with the planes of `hu` (z, y, x) as frames; `content` says more of each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    positions = even(len(hu)) if positions is None else positions
    file = _file(sop_class, series or generate_uid(), hu.shape[1:], ExplicitVRLittleEndian)
    file.NumberOfFrames = len(hu)
    file.PixelData = b"".join(_stored(plane, scale(k)) for k, plane in enumerate(hu))
    file.SharedFunctionalGroupsSequence = [
        _group(
            PlaneOrientationSequence={"ImageOrientationPatient": _decimals(orientation)},
            PixelMeasuresSequence={"PixelSpacing": _decimals(SPACING), "SliceThickness": "2.5"},
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        _group(
            PlanePositionSequence={"ImagePositionPatient": _decimals(position)},
            PixelValueTransformationSequence=dict(
                zip(("RescaleSlope", "RescaleIntercept"), _decimals(scale(k)), strict=True), RescaleType="HU"
            ),
            FrameContentSequence=content(k),
        )
        for k, position in enumerate(positions)
    ]
    edit(file)
    file.save_as(path, enforce_file_format=True)
    return path


def _file(sop_class: str, series: str, shape: tuple[int, ...], syntax: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), generate_uid()
    meta.TransferSyntaxUID = syntax
    file = FileDataset(
        None,
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
    )
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = UID(sop_class), meta.MediaStorageSOPInstanceUID, "CT"
    file.StudyInstanceUID, file.SeriesInstanceUID, file.SeriesNumber = "1.2.3", series, 4
    file.SeriesDescription, file.SeriesDate = "arterial", "20200131"
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = *shape, 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    return file


def _stored(plane: np.ndarray, scale: tuple[float, float]) -> bytes:
    slope, intercept = scale
    return np.rint((plane.astype(float) - intercept) / slope).astype("<i2").tobytes()


def _decimals(numbers: Sequence[float]) -> list[str]:
    """Numbers in the sixteen characters that DICOM has for them."""
    return [format_number_as_ds(float(number)) for number in numbers]


def _group(**sequences: dict[str, Any]) -> Dataset:
    """Each macro of a functional group is a sequence of one item."""
    group = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for element, value in values.items():
            setattr(item, element, value)
        setattr(group, name, [item])
    return group
