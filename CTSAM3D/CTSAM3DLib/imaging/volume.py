"""A CT, or a mask on its grid: voxels with their geometry."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry

__all__ = ["Geometry", "Volume"]

_MIN_CONTRAST_HU = 100
_MAX_HU = 32767


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (z, y, x), integers or floats, with their geometry. Equal content has equal `content_hash`.

    Attributes:
        array: voxels (z, y, x); of a CT in HU, of a mask 0 or 1.
        geometry: the voxel grid in LPS mm.
        name: shown to the user; `read` takes it from the file name.
        notes: sentences on what was left out of the files, such as copies of slices.

    Raises VolumeError where the array does not fit the geometry.
    """

    array: NDArray[np.generic]
    geometry: Geometry
    name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.shape != self.geometry.shape:
            raise VolumeError(f"The voxels have shape {array.shape}, but their geometry {self.geometry.shape}.")
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        if array.dtype.char not in "bBhHiIlLqQfd":
            raise VolumeError(f"Voxels of type {array.dtype} cannot be used; give integers or 32-bit floats.")
        object.__setattr__(self, "array", array.astype(array.dtype.newbyteorder("="), copy=False))

    @classmethod
    def read(cls, path: str | os.PathLike[str], untrusted: bool = False, series: str | int | None = None) -> Volume:
        """Read NIfTI, NRRD, MetaImage or DICOM: a file, a folder or a zip that holds one image.

        Integers come as int16 where they fit, floats as float32; the array is read-only.

        Args:
            path: a file, the CT series that a DICOM file belongs to, or a folder or zip with one image anywhere in it.
            untrusted: the file comes from somebody else: its header may name files for the voxels only beside it.
            series: which of several CT series, by its number in the error's list (from 1) or its UID.

        Raises:
            SeveralSeriesError: there are several CT series, and `series` names none of them.
            VolumeError: there is no image, or it cannot be read as one regular grid.

        """
        from CTSAM3DLib.imaging.image_files import read_image  # its readers need not be there inside Slicer

        path = Path(path)
        found = read_image(path, untrusted, None if series is None else str(series))
        name = Path(path.name.removesuffix(".gz")).stem.removesuffix(".seg")
        return cls(found.array, found.geometry, name, found.notes)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a .nii.gz, .nii, .nrrd or .mha file atomically. Raises OutputError."""
        from CTSAM3DLib.imaging.image_files import write_image  # as in `read`

        write_image(self.array, self.geometry, Path(path))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of geometry and voxels, hexadecimal."""
        digest = hashlib.sha256(repr((self.geometry, self.array.dtype.str)).encode())
        for plane in self.array:
            digest.update(np.ascontiguousarray(plane).data)
        return digest.hexdigest()

    def check_ct(self) -> None:
        """Raise VolumeError unless the voxels can be a CT in Hounsfield units."""
        if min(self.array.shape) < 2:
            size = "x".join(str(n) for n in self.array.shape[::-1])
            raise VolumeError(f"The image has only one slice (size {size}); give a CT of several slices.")
        low, high = float(np.min(self.array)), float(np.max(self.array))  # either is NaN where a voxel is
        if not np.isfinite((low, high)).all():
            raise VolumeError("The image holds voxels that are not finite numbers; replace them by air (-1024 HU).")
        values = f"voxels from {low:g} to {high:g}"
        if high - low < _MIN_CONTRAST_HU:
            raise VolumeError(f"The image is nearly constant ({values}); give a CT in Hounsfield units.")
        if low >= 0:
            raise VolumeError(f"The image has no value below 0 ({values}); give a CT in Hounsfield units.")
        if high > _MAX_HU or low < -_MAX_HU - 1:
            raise VolumeError(f"The image's values are beyond any CT ({values}); give a CT in Hounsfield units.")
