"""NIfTI-1 where ITK is silent or refuses: sheared sforms, and files that end too early."""

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
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # units of length other than mm: metre, micrometre


@dataclass(frozen=True)
class Header:
    """What of a NIfTI-1 header (https://nifti.nimh.nih.gov/nifti-1) SimpleITK does not tell exactly."""

    qform_code: int
    sform_code: int
    ijk_to_lps: NDArray[np.float64]
    data_end: int

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read the header of a .nii or .nii.gz file that SimpleITK has recognised."""
        with _open(path) as file:
            raw = file.read(348)
        order = "<" if struct.unpack_from("<i", raw)[0] == 348 else ">"
        dimensions = struct.unpack_from(f"{order}8h", raw, 40)
        (bits,) = struct.unpack_from(f"{order}h", raw, 72)
        (data_start,) = struct.unpack_from(f"{order}f", raw, 108)
        qform_code, sform_code = struct.unpack_from(f"{order}2h", raw, 252)
        ijk_to_ras = np.eye(4)
        ijk_to_ras[:3] = np.reshape(struct.unpack_from(f"{order}12f", raw, 280), (3, 4))
        ijk_to_ras[:3] *= _MILLIMETRES.get(raw[123] & 7, 1.0)
        voxels = math.prod(dimensions[1 : 1 + dimensions[0]])
        return cls(qform_code, sform_code, LPS_TO_RAS @ ijk_to_ras, int(data_start) + voxels * bits // 8)

    @property
    def sform_holds(self) -> bool:
        """Whether ITK takes the sform, not the qform, for the position (itk::NiftiImageIO's order of preference)."""
        preferred = self.sform_code == _SCANNER_ANATOMY or (self.sform_code > 0 and self.qform_code == 0)
        return preferred and bool(abs(np.linalg.det(self.ijk_to_lps)) > 0)


def is_complete(path: Path) -> bool:
    """Whether the file holds all its voxels; ITK reads zeros where a file ends too early, and says nothing."""
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


@contextmanager
def sheared_sform_allowed() -> Iterator[None]:
    """Let ITK read a file whose sform is sheared; the position it then reports is not exact."""
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
    """Write the exact position into an uncompressed little-endian .nii file, as its only one."""
    with path.open("r+b") as file:
        file.seek(252)
        file.write(struct.pack("<2h", 0, _SCANNER_ANATOMY))
        file.seek(280)
        file.write(struct.pack("<12f", *(LPS_TO_RAS @ ijk_to_lps)[:3].ravel()))


def compress(source: Path, target: Path) -> None:
    """Write `source` gzipped to `target`."""
    with source.open("rb") as plain, gzip.open(target, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed, 2**20)


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if _is_gzipped(path) else path.open("rb")
