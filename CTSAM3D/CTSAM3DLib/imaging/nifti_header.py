"""NIfTI-1 headers, for what ITK does not handle: sheared sforms, truncated files, voxels that are NaN or infinite."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GZIP_MAGIC = b"\x1f\x8b"
_SCANNER_ANATOMY = 1  # NIFTI_XFORM_SCANNER_ANAT
_FLOATS = {16: "f4", 64: "f8"}  # NumPy's types by the header's codes
_BLOCK = 2**22
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # units of length other than mm: metre, micrometre


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header (https://nifti.nimh.nih.gov/nifti-1) that SimpleITK does not report exactly."""

    qform_code: int
    sform_code: int
    ijk_to_lps: NDArray[np.float64]
    data_start: int
    data_end: int
    float_type: np.dtype[np.floating] | None
    """Type of the voxels; None for integers."""

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read the header in a .nii or .hdr file, gzipped or not, that SimpleITK has recognised."""
        with _open(path) as file:
            raw = file.read(348)
        order = "<" if struct.unpack_from("<i", raw)[0] == 348 else ">"
        dimensions = struct.unpack_from(f"{order}8h", raw, 40)
        datatype, bits = struct.unpack_from(f"{order}2h", raw, 70)
        (data_start,) = struct.unpack_from(f"{order}f", raw, 108)
        qform_code, sform_code = struct.unpack_from(f"{order}2h", raw, 252)
        ijk_to_ras = np.eye(4)
        ijk_to_ras[:3] = np.reshape(struct.unpack_from(f"{order}12f", raw, 280), (3, 4))
        ijk_to_ras[:3] *= _MILLIMETRES.get(raw[123] & 7, 1.0)
        voxels = math.prod(dimensions[1 : 1 + dimensions[0]])
        return cls(
            qform_code,
            sform_code,
            LPS_TO_RAS @ ijk_to_ras,
            int(data_start),
            int(data_start) + voxels * bits // 8,
            np.dtype(order + _FLOATS[datatype]) if datatype in _FLOATS else None,
        )

    @property
    def sform_holds(self) -> bool:
        """Whether ITK uses the sform, not the qform (the order of preference of itk::NiftiImageIO)."""
        preferred = self.sform_code == _SCANNER_ANATOMY or (self.sform_code > 0 and self.qform_code == 0)
        return preferred and bool(abs(np.linalg.det(self.ijk_to_lps)) > 0)


def is_complete(path: Path) -> bool:
    """Whether the file holds all its voxels; ITK silently reads zeros from a truncated file."""
    expected = Header.read(path).data_end
    if not _is_gzipped(path):
        return path.stat().st_size >= expected
    with path.open("rb") as file:
        file.seek(-4, 2)
        (length,) = struct.unpack("<I", file.read(4))
    if length == expected % 2**32:
        return True
    try:  # several gzip members, bytes after the voxels, or a file cut short
        with gzip.open(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(2**20), b"")) >= expected
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def is_finite(path: Path) -> bool:
    """Whether all voxels are finite numbers; ITK silently reads any other as 0, which is water in HU.

    `path` is a .nii file or one file of a pair (.hdr, .img), gzipped or not. Raises EOFError where it is damaged.
    """
    header_file, voxel_file = _files(path)
    header = Header.read(header_file)
    if header.float_type is None:
        return True
    left = header.data_end - header.data_start
    try:
        with _open(voxel_file) as file:
            file.seek(header.data_start)
            while block := file.read(min(_BLOCK, left)):
                left -= len(block)
                whole = len(block) // header.float_type.itemsize
                if not np.isfinite(np.frombuffer(block, header.float_type, whole)).all():
                    return False
    except (OSError, zlib.error) as error:
        raise EOFError(voxel_file) from error
    return True


@contextmanager
def sheared_sform_allowed() -> Iterator[None]:
    """Let ITK read files with a sheared sform; the geometry that ITK then reports is not exact."""
    variable = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = environ.get(variable)
    environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del environ[variable]
        else:
            environ[variable] = before


def set_sform(path: Path, ijk_to_lps: NDArray[np.float64]) -> None:
    """Write the matrix (4x4, voxels i, j, k to LPS mm) as the only form of an uncompressed little-endian .nii file."""
    with path.open("r+b") as file:
        file.seek(252)
        file.write(struct.pack("<2h", 0, _SCANNER_ANATOMY))
        file.seek(280)
        file.write(struct.pack("<12f", *(LPS_TO_RAS @ ijk_to_lps)[:3].ravel()))


def compress(source: Path, target: Path) -> None:
    """Write `source` gzipped to `target`."""
    with source.open("rb") as plain, gzip.open(target, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed, 2**20)


def _files(path: Path) -> tuple[Path, Path]:
    """The files of the header and of the voxels; of a pair both plain and gzipped, the plain files, as in ITK."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    stem, ending = name[:-4], name[-4:].lower()
    if ending not in (".hdr", ".img"):
        return path, path

    def other(ending: str) -> Path:
        beside = {file.name.lower(): file for file in path.parent.iterdir()}
        names = (f"{stem}{ending}".lower(), f"{stem}{ending}.gz".lower())
        return next((beside[name] for name in names if name in beside), path)

    return path if ending == ".hdr" else other(".hdr"), other(".img")


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if _is_gzipped(path) else path.open("rb")
