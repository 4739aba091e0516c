"""DICOM series: read the CT series in a folder, or the series that a file belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry

_MODALITY, _SERIES_UID, _NUMBER, _DESCRIPTION = "0008|0060", "0020|000e", "0020|0011", "0008|103e"
_SOP_CLASS = "0008|0016"
_ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")  # the second was converted to it
_POSITION_TOLERANCE = 0.25  # of a slice: positions are rounded, but a missing slice is off by half a slice or more


@dataclass(frozen=True)
class _Series:
    files: tuple[str, ...]
    modality: str
    number: str
    description: str

    @classmethod
    def of(cls, folder: Path, uid: str) -> _Series:
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)  # in the order of their positions
        first = _information(files[0])
        return cls(files, *(_tag(first, tag) for tag in (_MODALITY, _NUMBER, _DESCRIPTION)))

    def __str__(self) -> str:
        first = Path(self.files[0]).name
        return f'series {self.number or "?"} "{self.description}" ({len(self.files)} files, one is {first})'


def read_folder(folder: Path) -> tuple[sitk.Image, Geometry]:
    """Read the only CT series of a folder. Raises VolumeError where there is no CT series, or more than one."""
    found = [_Series.of(folder, uid) for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))]
    if not found:
        raise VolumeError(f"{folder} holds no DICOM files; give the folder in which they lie directly.")
    of_ct = [series for series in found if series.modality == "CT"]
    if not of_ct:
        modalities = ", ".join(sorted({series.modality for series in found}))
        raise VolumeError(f"{folder} holds no CT, only {modalities}; give a CT series.")
    if len(of_ct) > 1:
        names = "; ".join(str(series) for series in of_ct)
        raise VolumeError(f"{folder} holds {len(of_ct)} CT series, so give one file of the wanted one: {names}.")
    return _read(of_ct[0])


def read_file(path: Path) -> tuple[sitk.Image, Geometry]:
    """Read the CT series in a file's folder that the file belongs to. Raises VolumeError."""
    series = _Series.of(path.parent, _tag(_information(str(path)), _SERIES_UID))
    if series.modality != "CT":
        raise VolumeError(f"{path} is of modality {series.modality}, not CT; give a CT series.")
    return _read(series)


def _read(series: _Series) -> tuple[sitk.Image, Geometry]:
    try:
        slices = [_information(file) for file in series.files]
        for each in slices:
            _check_single_frame(series, each)
        if len(slices) == 1:
            image = slices[0].Execute()
            return image, Geometry.of_image(image)
        return _read_slices(series, np.array([each.GetOrigin() for each in slices]))
    except RuntimeError as error:
        raise VolumeError(
            f"The DICOM {series} is damaged or mixes images of several sizes; export it again."
        ) from error


def _check_single_frame(series: _Series, information: sitk.ImageFileReader) -> None:
    """Raise VolumeError for multi-frame DICOM: ITK ignores the position and the rescale slope of each frame."""
    if information.GetSize()[2] > 1 or _tag(information, _SOP_CLASS) in _ENHANCED_CT:
        raise VolumeError(
            f"The DICOM {series} is multi-frame (enhanced) DICOM, whose frames cannot be placed reliably yet; "
            "export it with one file for each slice, or convert it to NIfTI by dcm2niix."
        )


def _read_slices(series: _Series, positions: NDArray[np.float64]) -> tuple[sitk.Image, Geometry]:
    steps = len(positions) - 1
    step = (positions[-1] - positions[0]) / steps
    distance = float(np.linalg.norm(step))
    strays = np.linalg.norm(positions - (positions[0] + np.arange(steps + 1)[:, None] * step), axis=1)
    if distance == 0 or strays.max() > _POSITION_TOLERANCE * distance:
        raise VolumeError(f"The DICOM {series} has missing or unevenly spaced slices; export all its slices again.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    image = reader.Execute()
    # ITK assumes slices stacked at right angles; with a gantry tilt the axes are sheared.
    matrix = Geometry.of_image(image).ijk_to_lps.copy()
    matrix[:3, 2], matrix[:3, 3] = step, positions[0]
    return image, Geometry.from_matrix(image.GetSize()[::-1], matrix)


def _information(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""
