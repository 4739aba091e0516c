"""Read and write image files (NIfTI, NRRD, MetaImage; DICOM is read only) with their exact geometry."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import OutputError, VolumeError
from CTSAM3DLib.imaging import dicom_series
from CTSAM3DLib.imaging import nifti_header as nifti
from CTSAM3DLib.imaging.detached_header import check_names_nothing_elsewhere
from CTSAM3DLib.imaging.geometry import Geometry

READABLE = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
_IMAGE_IOS = ("NiftiImageIO", "NrrdImageIO", "MetaImageIO", "GDCMImageIO")
_SFORM_TOLERANCE_MM = 0.01  # a quaternion and a matrix of float32 agree to better than this


def read_image(path: Path, untrusted: bool = False) -> tuple[NDArray[np.generic], Geometry]:
    """Read a file, or the CT series of a DICOM folder.

    Args:
        path: the file or folder.
        untrusted: refuse headers that name files outside their own folder.

    Returns:
        Voxels (z, y, x), int16 where integers fit, float32 for floats, and their geometry.

    Raises:
        VolumeError: the file is missing, damaged, of an unknown format, or no single 3D volume.

    """
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check its name.")
    if not os.access(path, os.R_OK):
        raise VolumeError(f"{path} may not be read by you; ask for the permission or copy it elsewhere.")
    with _quiet():
        if path.is_dir():
            image, geometry = dicom_series.read_folder(path)
        else:
            image, geometry = _read_file(path, untrusted)
    array = _voxels(image)
    if array.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in array):
        raise _not_finite(path)
    return _compact(array), geometry


def write_image(array: NDArray[np.generic], geometry: Geometry, path: Path) -> None:
    """Write voxels (z, y, x) to a .nii.gz, .nii, .nrrd or .mha file atomically. Raises OutputError."""
    if not path.name.lower().endswith(WRITABLE):
        raise OutputError(f"{path.name} has an unknown ending; choose one of {', '.join(WRITABLE)}.")
    image = as_image(array, geometry)
    with atomic_write(path) as temporary, _quiet():
        try:
            if _is_nifti(path) and _is_sheared(geometry):
                _write_sheared_nifti(image, geometry, temporary)
            else:
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OutputError(f"{path} cannot be written; look whether the disk is full.") from error
        if _is_nifti(path) and not nifti.is_complete(temporary):
            raise OutputError(f"{path} cannot be written: the disk is full, so free some space.")


def as_image(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """Return a SimpleITK image with this geometry and a copy of the voxels (z, y, x)."""
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(geometry.origin)
    image.SetSpacing(geometry.spacing)
    image.SetDirection(geometry.direction)
    return image


def _read_file(path: Path, untrusted: bool) -> tuple[sitk.Image, Geometry]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        image_io = reader.GetImageIOFromFileName(str(path))
        if image_io not in _IMAGE_IOS:  # ITK reads further formats, some of which name other files
            raise RuntimeError(image_io)
        if image_io == "GDCMImageIO":
            return dicom_series.read_file(path)
        if untrusted:
            check_names_nothing_elsewhere(path, image_io)
        reader.SetImageIO(image_io)
        with nifti.sheared_sform_allowed():
            reader.ReadImageInformation()
            _check_layout(path, reader)
            image = reader.Execute()
        geometry = Geometry.of_image(image)
        if _is_nifti(path):
            geometry = _nifti_geometry(path, geometry)
        if image_io == "NiftiImageIO" and not nifti.is_finite(path):
            raise _not_finite(path)
    except (RuntimeError, EOFError) as error:
        if path.name.lower().endswith(READABLE):
            raise VolumeError(f"{path} is damaged or incomplete; copy or export it again.") from error
        raise VolumeError(
            f"{path} is in an unknown format; give a NIfTI, NRRD or MetaImage file, or a DICOM folder."
        ) from error
    return image, geometry


def _not_finite(path: Path) -> VolumeError:
    return VolumeError(
        f"{path} holds voxels that are NaN or infinite, which is no number of Hounsfield units; "
        "replace them by air (-1024 HU)."
    )


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


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


def _nifti_geometry(path: Path, by_itk: Geometry) -> Geometry:
    """The geometry of the sform, where ITK's differs: ITK ignores shear and takes the spacing from another field."""
    if not nifti.is_complete(path):
        raise EOFError(path)
    header = nifti.Header.read(path)
    if not header.sform_holds:
        return by_itk
    exact = Geometry.from_matrix(by_itk.shape, header.ijk_to_lps)
    return by_itk if by_itk.is_close(exact, _SFORM_TOLERANCE_MM) else exact


def _voxels(image: sitk.Image) -> NDArray[np.generic]:
    """The image's own memory as a read-only array (z, y, x); the array keeps the image alive."""
    view = sitk.GetArrayViewFromImage(image)
    owner = SimpleNamespace(__array_interface__=view.__array_interface__, image=image)
    return np.asarray(owner).reshape(view.shape[-3:])


def _compact(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(np.int16)
    if array.dtype.itemsize > 1 and array.min() >= limits.min and array.max() <= limits.max:
        return array.astype(np.int16, copy=False)
    return array


def _is_sheared(geometry: Geometry) -> bool:
    axes = np.reshape(geometry.direction, (3, 3))
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)


def _write_sheared_nifti(image: sitk.Image, geometry: Geometry, path: Path) -> None:
    """Write a sheared geometry as the sform; ITK itself would silently make the axes orthogonal."""
    plain = path.with_name("plain.nii")
    image.SetDirection(np.eye(3).ravel().tolist())
    sitk.WriteImage(image, str(plain))
    nifti.set_sform(plain, geometry.ijk_to_lps)
    if path.name.lower().endswith(".gz"):
        nifti.compress(plain, path)
    else:
        plain.rename(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the console; conditions that matter are raised as errors."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
