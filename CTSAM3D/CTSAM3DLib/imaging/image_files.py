"""Image files to voxels with their exact geometry, and back: NIfTI, NRRD, MetaImage, DICOM, folders and zips.

What a file is, its content says, not its name. Whoever reads it, geometry and voxels are checked here.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import OutputError, VolumeError
from CTSAM3DLib.imaging import archive, nifti, nrrd_bzip2
from CTSAM3DLib.imaging.detached_header import check_names_nothing_elsewhere
from CTSAM3DLib.imaging.dicom import find
from CTSAM3DLib.imaging.dicom.frame import read_header
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image

READABLE = (".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".zip")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
_IMAGES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings that are looked for in folders."""
_SEGMENTATION = ".seg.nrrd"
_IMAGE_IOS = ("NrrdImageIO", "MetaImageIO")


@dataclass(frozen=True)
class ReadImage:
    """Voxels (z, y, x), where they lie, and sentences on what was left out of the files."""

    array: NDArray[np.generic]
    geometry: Geometry
    notes: tuple[str, ...] = ()


def read_image(path: Path, untrusted: bool = False, series: str | None = None) -> ReadImage:
    """Read the image that a file, a folder or a zip holds.

    Integers come as int16 where they fit, floats as float32; the array is read-only.

    Args:
        path: a file; a folder or a zip with one image file or one CT series, wherever in it; or a file of a series.
        untrusted: whether the header may name files for the voxels only beside it or below.
        series: which of several CT series, by its number in the list of the error or by its UID.

    Raises:
        SeveralSeriesError: there are several CT series, and `series` names none.
        VolumeError: what is there cannot be read as one three-dimensional image, and why.

    """
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check its name.")
    if not os.access(path, os.R_OK):
        raise VolumeError(f"{path} may not be read by you; ask for the permission or copy it elsewhere.")
    if path.is_file() and not path.stat().st_size:
        raise VolumeError(f"{path} is empty; copy or export it again.")
    with _quiet():
        if path.is_dir():
            found = _read_among(find.files_below(path), str(path), untrusted, series)
        elif archive.is_zip(path):
            with tempfile.TemporaryDirectory() as folder:
                found = _read_among(archive.unpack(path, Path(folder)), path.name, untrusted, series)
        elif read_header(path) is not None:
            found = _read_dicom(find.series_beside(path), str(path), series, path)
        else:
            found = _read_file(path, untrusted)
    array = _compact(found.array)
    array.flags.writeable = False
    return ReadImage(array, found.geometry, found.notes)


def write_image(array: NDArray[np.generic], geometry: Geometry, path: Path) -> None:
    """Write voxels (z, y, x) to a .nii.gz, .nii, .nrrd or .mha file, whole or not at all. Raises OutputError."""
    if not path.name.lower().endswith(WRITABLE):
        raise OutputError(f"{path.name} has an unknown ending; choose one of {', '.join(WRITABLE)}.")
    is_nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    with atomic_write(path) as temporary, _quiet():
        try:
            if is_nifti and _is_sheared(geometry):
                nifti.write_sheared(array, geometry, temporary)
            else:
                sitk.WriteImage(as_image(array, geometry), str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OutputError(f"{path} cannot be written; look whether the disk is full.") from error
        if is_nifti and not nifti.is_complete(temporary):
            raise OutputError(f"{path} cannot be written: the disk is full, so free some space.")


def image_files_in(files: Sequence[Path]) -> list[Path]:
    """Those of the files that are images by their names, but for DICOM files and segmentations."""
    return [
        file for file in files if file.name.lower().endswith(_IMAGES) and not file.name.lower().endswith(_SEGMENTATION)
    ]


def _read_among(files: Sequence[Path], where: str, untrusted: bool, series: str | None) -> ReadImage:
    """The one image among the files of a folder or a zip."""
    if not files:
        raise VolumeError(f"{where} holds no file; give a CT, or the folder that its files are in.")
    images = image_files_in(files)
    if not images:
        return _read_dicom(files, where, series)
    if len(images) > 1:
        names = ", ".join(file.name for file in images[:5])
        raise VolumeError(f"{where} holds {len(images)} images ({names}); give one of them.")
    if series is not None or find.stacks_in(files)[0]:
        if series is None:
            raise VolumeError(f"{where} holds the image {images[0].name} and a DICOM CT; give one of the two.")
        return _read_dicom(files, where, series)
    return _read_file(images[0], untrusted)


def _read_dicom(files: Sequence[Path], where: str, series: str | None, own: Path | None = None) -> ReadImage:
    """The CT among these files; where several are there and `own` belongs to one of them, that one."""
    try:
        stack = find.choose(files, where, series)
    except find.SeveralSeriesError as several:
        with_own = [choice for choice in several.choices if any(frame.file == own for frame in choice.frames)]
        if len(with_own) != 1:
            raise
        stack = with_own[0]
    return ReadImage(*find.read_stack(stack), stack.notes)


def _read_file(path: Path, untrusted: bool) -> ReadImage:
    if nifti.is_nifti(path) or path.name.lower().endswith((".nii", ".nii.gz")):
        return ReadImage(*nifti.read(path))
    if untrusted:
        check_names_nothing_elsewhere(path, _image_io(path))
    if nrrd_bzip2.is_nrrd_bzip2(path):
        array, geometry = nrrd_bzip2.read(path)
    else:
        array, geometry = _read_by_itk(path)
    if array.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in array):
        raise VolumeError(
            f"{path} holds voxels that are NaN or infinite, which is no number of Hounsfield units; "
            "replace them by air (-1024 HU)."
        )
    return ReadImage(array, geometry)


def _read_by_itk(path: Path) -> tuple[NDArray[np.generic], Geometry]:
    image_io = _image_io(path)
    if image_io not in _IMAGE_IOS:  # ITK knows formats that nobody asked for, and some of them name other files
        raise _unknown(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io)
    try:
        reader.ReadImageInformation()
        _check_layout(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{path} {_why(error, path)}") from error
    return _voxels(image), Geometry.of_image(image)


def _image_io(path: Path) -> str:
    reader = sitk.ImageFileReader()
    try:
        return str(reader.GetImageIOFromFileName(str(path)))
    except RuntimeError:
        return ""


def _unknown(path: Path) -> VolumeError:
    if path.name.lower().endswith(READABLE):
        return VolumeError(f"{path} is not what its name says; export the CT again.")
    return VolumeError(f"{path} is in an unknown format; give a NIfTI, NRRD or MetaImage file, or a DICOM folder.")


def _why(error: RuntimeError, path: Path) -> str:
    """What ITK says, as a sentence; its own words where no sentence of ours says it better."""
    text = str(error)
    absent = ("could not open", "couldn't open", "cannot be read", "No such file", "not found")
    if path.name.lower().endswith((".nhdr", ".mhd")) and any(words in text for words in absent):
        return "names a file of voxels that is not there; give the header and its files together."
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason is given")
    last = last.removeprefix("itk::ERROR: ").rstrip(".")
    return f"is damaged or incomplete (the reader says: {last[:200]}); copy or export it again."


def _check_layout(path: Path, reader: sitk.ImageFileReader) -> None:
    size = reader.GetSize()
    if len(size) < 3:
        raise VolumeError(f"{path} is a 2D image; give a 3D CT.")
    if math.prod(size[3:]) > 1:
        raise VolumeError(f"{path} holds {math.prod(size[3:])} volumes; save the one to be segmented as a 3D file.")
    if reader.GetNumberOfComponents() > 1:
        raise VolumeError(
            f"{path} holds {reader.GetNumberOfComponents()} values per voxel (a colour or vector image); give a CT."
        )


def _voxels(image: sitk.Image) -> NDArray[np.generic]:
    """Return the image's own memory as a read-only array (z, y, x), which keeps the image alive."""
    view = sitk.GetArrayViewFromImage(image)
    owner = SimpleNamespace(__array_interface__=view.__array_interface__, image=image)
    return np.asarray(owner).reshape(view.shape[-3:])


def _compact(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(np.int16)
    if array.dtype.itemsize > 1 and array.min() >= limits.min and array.max() <= limits.max:
        return array.astype(np.int16, copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_sheared(geometry: Geometry) -> bool:
    axes = np.reshape(geometry.direction, (3, 3))
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the console; what matters of them is raised as an error."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
