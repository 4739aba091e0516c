"""NIfTI-1 and NIfTI-2, gzipped or not, in one file or as a pair, by nibabel; where voxels lie, ITK's rules say.

Slicer and ITK-SNAP show a NIfTI file where ITK puts it, so its choice between qform and sform is ours. ITK itself is
silent where a file ends too early or voxels are not numbers, knows no shear, and reads no NIfTI-2.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
GZIP_MAGIC = b"\x1f\x8b"
_HEADERS: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
"""nibabel's header class by the length that a header begins with."""
_MAGIC_AT = {348: 344, 540: 4}
_SCANNER_ANATOMY = 1  # NIFTI_XFORM_SCANNER_ANAT
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # units of length other than mm: metre, micrometre
_BLOCK = 2**24
_SAME_PLACE_MM = 0.01  # a quaternion and a matrix of float32 agree to better than this


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its content, or the voxels (.img) of a NIfTI pair."""
    header, _ = _pair(path)
    try:
        start = _start(header)
    except (OSError, EOFError, zlib.error):
        return False
    is_pair = path.name.lower().endswith((".hdr", ".img", ".hdr.gz", ".img.gz"))
    return _header_length(start) is not None or (is_pair and _begins_like_analyze(start))


def read(path: Path) -> tuple[NDArray[np.generic], Geometry]:
    """Voxels (z, y, x), scaled as the header says, and geometry.

    `path` is a file, or either file of a pair (.hdr, .img). Raises VolumeError where the file is damaged, holds more
    than one volume or value a voxel, has voxels that are not finite, or lies nowhere.
    """
    header_file, voxel_file = _pair(path)
    try:
        header = _header(header_file)
        stored = _stored(voxel_file, header, is_pair=header_file != voxel_file)
    except (OSError, EOFError, zlib.error) as error:
        raise VolumeError(f"{path} is damaged or incomplete ({error}); copy or export it again.") from error
    voxels = _scaled(stored, header, path)
    exact = _geometry(header, (voxels.shape[0], voxels.shape[1], voxels.shape[2]))
    by_itk = _geometry_by_itk(path)
    if by_itk is not None and by_itk.is_close(exact, _SAME_PLACE_MM):
        return voxels, by_itk  # the same place to the last digit as in Slicer
    return voxels, exact


def write_sheared(array: NDArray[np.generic], geometry: Geometry, path: Path) -> None:
    """Write what ITK would silently make orthogonal, as a .nii or .nii.gz file."""
    image = nibabel.Nifti1Image(array.transpose(), LPS_TO_RAS @ geometry.ijk_to_lps, dtype=array.dtype)
    image.header.set_qform(None, 0)
    image.header.set_sform(LPS_TO_RAS @ geometry.ijk_to_lps, _SCANNER_ANATOMY)
    nibabel.save(image, path)


def is_complete(path: Path) -> bool:
    """Whether a file that was just written holds all its voxels; on a full disk ITK says nothing."""
    header = _header(path)
    expected = int(header.get_data_offset()) + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    if not _is_gzipped(path):
        return bool(path.stat().st_size >= expected)
    try:
        with gzip.open(path) as file:
            return bool(sum(map(len, iter(lambda: file.read(_BLOCK), b""))) >= expected)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def _header(path: Path) -> Any:
    start = _start(path)
    length = _header_length(start)
    if length is None:
        if len(start) < min(_HEADERS):
            raise EOFError("it ends within its header")
        if start[:2] == GZIP_MAGIC:
            raise VolumeError(f"{path} was packed by gzip twice; unpack it once.")
        if _begins_like_analyze(start):
            raise VolumeError(
                f"{path} is an Analyze 7.5 file, which does not tell left from right; convert the CT to NIfTI."
            )
        raise VolumeError(f"{path} is no NIfTI file, whatever its name says; export the CT again.")
    try:
        header = _HEADERS[length].from_fileobj(_open(path), check=False)
    except (ValueError, KeyError, nibabel.spatialimages.HeaderDataError) as error:
        raise VolumeError(f"{path} has a damaged header ({error}); export the CT again.") from error
    shape = header.get_data_shape()
    if len(shape) < 3:
        raise VolumeError(f"{path} is a 2D image; give a 3D CT.")
    if min(shape) < 1:
        raise VolumeError(f"{path} has no voxels (size {tuple(shape)}); export the CT again.")
    if math.prod(shape[3:]) > 1:
        raise VolumeError(f"{path} holds {math.prod(shape[3:])} volumes; save the one to be segmented as a 3D file.")
    try:
        kind = header.get_data_dtype()
    except (KeyError, nibabel.spatialimages.HeaderDataError) as error:
        raise VolumeError(f"{path} has voxels of an unknown type ({error}); export the CT again.") from error
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise VolumeError(f"{path} has colours or vectors as voxels ({kind}); give a CT.")
    return header


def _stored(path: Path, header: Any, is_pair: bool) -> NDArray[Any]:
    """The stored values (z, y, x) of a file of voxels."""
    kind, shape = header.get_data_dtype(), header.get_data_shape()[:3]
    size = math.prod(shape) * kind.itemsize
    start = int(header.get_data_offset())
    if not is_pair and start < header.sizeof_hdr:
        start = header.sizeof_hdr + 4
    with _open(path) as file:
        file.seek(start)
        if size > _BLOCK and not _is_gzipped(path) and path.stat().st_size < start + size:
            raise EOFError(f"it has {path.stat().st_size} of {start + size} bytes")
        content = _exactly(file, size)
    if len(content) < size:
        raise EOFError(f"it ends after {len(content)} of {size} bytes of voxels")
    return np.frombuffer(content, kind).reshape(shape[::-1])


def _exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes, or all that are left; read piece by piece, since a damaged header can ask for any number."""
    pieces, left = [], size
    while left and (piece := file.read(min(left, _BLOCK))):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _scaled(stored: NDArray[Any], header: Any, path: Path) -> NDArray[np.generic]:
    slope, intercept = header.get_slope_inter()
    scale, shift = (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))
    if stored.dtype.kind == "f":
        for plane in stored:
            if not np.isfinite(plane).all():
                raise VolumeError(
                    f"{path} holds voxels that are NaN or infinite, which is no number of Hounsfield units; "
                    "replace them by air (-1024 HU)."
                )
    if (scale, shift) == (1.0, 0.0):
        return stored
    if stored.dtype.kind in "iu" and scale == round(scale) and shift == round(shift):
        return (
            stored.astype(np.int64) * int(scale) + int(shift)
            if stored.dtype.itemsize > 2
            else (stored.astype(np.int32) * int(scale) + int(shift))
        )
    return (stored.astype(np.float64) * scale + shift).astype(np.float32)


def _geometry(header: Any, shape: tuple[int, int, int]) -> Geometry:
    """Where ITK puts the voxels, LPS mm (itk::NiftiImageIO's order of preference)."""
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    sform = np.asarray(header.get_sform(), np.float64)
    prefers_sform = sform_code == _SCANNER_ANATOMY or (sform_code > 0 and qform_code == 0)
    if prefers_sform and abs(np.linalg.det(sform)) > 0:
        ijk_to_ras = sform
    elif qform_code > 0:
        ijk_to_ras = np.asarray(header.get_qform(), np.float64)
    else:  # voxel sizes, and nothing of the patient; ITK then takes the axes for L, P, S
        ijk_to_ras = LPS_TO_RAS @ np.diag([*(float(size) or 1.0 for size in header.get_zooms()[:3]), 1.0])
    ijk_to_ras = ijk_to_ras.copy()
    ijk_to_ras[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return Geometry.from_matrix(shape, LPS_TO_RAS @ ijk_to_ras)


def _geometry_by_itk(path: Path) -> Geometry | None:
    """Where ITK says that the voxels lie; None where it does not read the file, as with sheared axes and NIfTI-2."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NiftiImageIO")
    try:
        reader.ReadImageInformation()
        return Geometry.of_image(cast(sitk.Image, reader))  # a reader tells the same of the image that it would read
    except (RuntimeError, VolumeError):
        return None


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the voxels; both are `path` where it is one file."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    stem, ending = name[:-4], name[-4:].lower()
    if ending not in (".hdr", ".img"):
        return path, path

    def other(ending: str) -> Path:
        beside = {file.name.lower(): file for file in path.parent.iterdir()}
        names = (f"{stem}{ending}".lower(), f"{stem}{ending}.gz".lower())
        return next((beside[name] for name in names if name in beside), path)

    return (path, other(".img")) if ending == ".hdr" else (other(".hdr"), path)


def _header_length(start: bytes) -> int | None:
    """348 for NIfTI-1, 540 for NIfTI-2, None for anything else."""
    for length, at in _MAGIC_AT.items():
        if len(start) >= length and start[at : at + 3] in (b"n+1", b"ni1", b"n+2", b"ni2"):
            sizes = struct.unpack("<i", start[:4]) + struct.unpack(">i", start[:4])
            if length in sizes:
                return length
    return None


def _begins_like_analyze(start: bytes) -> bool:
    return len(start) >= 348 and 348 in struct.unpack("<i", start[:4]) + struct.unpack(">i", start[:4])


def _start(path: Path) -> bytes:
    with _open(path) as file:
        return file.read(540)


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _open(path: Path) -> IO[bytes]:
    """A file, unpacked if it is gzipped, whatever its name says."""
    return cast(IO[bytes], gzip.open(path)) if _is_gzipped(path) else path.open("rb")
