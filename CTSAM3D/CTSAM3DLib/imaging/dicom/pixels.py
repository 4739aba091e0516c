"""Pixels of DICOM frames as HU.

What is not compressed is read here; every compressed frame is decoded by GDCM, through SimpleITK, as an image of its
own, so that one decoder serves files of one and of many frames alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.dicom.frame import Frame

_COPIED = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
_ENCAPSULATED = "1.2.840.10008.1.2.4"  # JPEG and its kin; RLE is .5
_RLE = "1.2.840.10008.1.2.5"


def hu_of(frames: Sequence[Frame]) -> NDArray[np.generic]:
    """The frames, which are of one size, as HU (z, y, x), in their order.

    int16 where all values are integers that fit, else float32. Pixels that the file calls padding are air.

    Raises:
        VolumeError: a file is damaged, compressed in an unknown way, or in colour.

    """
    integers = all(frame.slope == round(frame.slope) and frame.intercept == round(frame.intercept) for frame in frames)
    volume = np.empty((len(frames), frames[0].rows, frames[0].columns), np.int32 if integers else np.float32)
    files: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        files.setdefault(frame.file, []).append(place)
    for path, places in files.items():
        dataset = _whole(path)
        stored = _Stored(dataset, path)
        for place in places:
            frame = frames[place]
            pixels = stored.frame(frame.index)
            values = pixels * frame.slope + frame.intercept
            padding = stored.padding(pixels)
            if padding is not None:
                values[padding] = AIR_HU
            volume[place] = np.rint(values) if integers else values
    limits = np.iinfo(np.int16)
    if integers and volume.min() >= limits.min and volume.max() <= limits.max:
        return volume.astype(np.int16)
    return volume


class _Stored:
    """The stored values of a file's frames."""

    def __init__(self, dataset: Dataset, path: Path) -> None:
        self._dataset, self._path = dataset, path
        if int(dataset.get("SamplesPerPixel", 1)) != 1:
            raise VolumeError(f"{path.name} is a colour image; give a CT.")
        if "PixelData" not in dataset:
            raise VolumeError(f"{path.name} holds no pixels; export the CT again.")
        self._count = int(dataset.get("NumberOfFrames") or 1)
        syntax = _syntax(dataset)
        self._compressed = syntax.startswith(_ENCAPSULATED) or syntax == _RLE
        if not (self._compressed or syntax.startswith("1.2.840.10008.1.2")):
            raise VolumeError(f"{path.name} is stored in a way that is not known ({syntax}); export the CT again.")
        self._fragments = (
            list(generate_frames(dataset.PixelData, number_of_frames=self._count)) if self._compressed else []
        )

    def frame(self, index: int) -> NDArray[np.float64]:
        """The stored values (y, x) of a frame."""
        return self._decoded(index) if self._compressed else self._native(index)

    def padding(self, pixels: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Which pixels are no part of the image; None where the file names none."""
        low = self._dataset.get("PixelPaddingValue")
        if low is None:
            return None
        high = self._dataset.get("PixelPaddingRangeLimit", low)
        first, last = sorted((float(low), float(high)))
        return (pixels >= first) & (pixels <= last)

    def _native(self, index: int) -> NDArray[np.float64]:
        dataset = self._dataset
        allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
        if allocated not in (8, 16, 32):
            raise VolumeError(f"{self._path.name} has {allocated} bits a voxel; export the CT again with 16.")
        order = ">" if _syntax(dataset) == ExplicitVRBigEndian else "<"
        count = int(dataset.Rows) * int(dataset.Columns)
        kind = np.dtype(f"{order}u{allocated // 8}")
        start = index * count * kind.itemsize
        if len(dataset.PixelData) < start + count * kind.itemsize:
            raise VolumeError(f"{self._path.name} ends before its last voxel; copy or export it again.")
        raw = np.frombuffer(dataset.PixelData, kind, count, start).astype(np.int64)
        # Bits above the stored ones can hold something else, such as an overlay.
        raw = (raw >> (int(dataset.get("HighBit", stored - 1)) + 1 - stored)) & (2**stored - 1)
        if int(dataset.PixelRepresentation) == 1:
            raw = np.where(raw >= 2 ** (stored - 1), raw - 2**stored, raw)
        pixels: NDArray[np.float64] = raw.reshape(int(dataset.Rows), int(dataset.Columns)).astype(np.float64)
        return pixels

    def _decoded(self, index: int) -> NDArray[np.float64]:
        if index >= len(self._fragments):
            raise VolumeError(f"{self._path.name} ends before its last frame; copy or export it again.")
        alone = Dataset()
        for name in _COPIED:
            if name in self._dataset:
                setattr(alone, name, self._dataset[name].value)
        alone.SOPClassUID, alone.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.7"), UID("1.2.3")
        alone.PixelData = encapsulate([self._fragments[index]])
        alone["PixelData"].is_undefined_length = True
        alone.file_meta = FileMetaDataset()
        alone.file_meta.TransferSyntaxUID = UID(_syntax(self._dataset))
        alone.file_meta.MediaStorageSOPClassUID, alone.file_meta.MediaStorageSOPInstanceUID = (
            alone.SOPClassUID,
            alone.SOPInstanceUID,
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "frame.dcm")
            pydicom.dcmwrite(file, alone, enforce_file_format=True)
            try:
                image = sitk.ReadImage(str(file))
            except RuntimeError as error:
                raise VolumeError(
                    f"{self._path.name} is compressed ({UID(_syntax(self._dataset)).name}) and cannot be unpacked; "
                    "it is damaged, or has to be exported without compression."
                ) from error
            return np.asarray(sitk.GetArrayFromImage(image), np.float64).reshape(image.GetSize()[1::-1])


def _whole(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # damaged bytes make pydicom raise nearly anything
        raise VolumeError(f"{path.name} is damaged or incomplete ({error}); copy or export it again.") from error


def _syntax(dataset: Dataset) -> str:
    """The transfer syntax; that of files without file meta information is the oldest one."""
    meta = getattr(dataset, "file_meta", None)
    return (
        str(meta.get("TransferSyntaxUID", "")) or str(ImplicitVRLittleEndian) if meta else str(ImplicitVRLittleEndian)
    )
