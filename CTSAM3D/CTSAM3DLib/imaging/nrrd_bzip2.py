"""NRRD files packed by bzip2, which ITK does not read, by pynrrd."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
_SHORT = {"LPS": "left-posterior-superior", "RAS": "right-anterior-superior", "LAS": "left-anterior-superior"}
_HEADER_BYTES = 2**16


def is_nrrd_bzip2(path: Path) -> bool:
    """Whether a file is NRRD with voxels packed by bzip2."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if not start.startswith(b"NRRD"):
        return False
    lines = start.split(b"\n\n", 1)[0].lower().splitlines()
    return any(line.replace(b" ", b"") in (b"encoding:bzip2", b"encoding:bz2") for line in map(bytes.strip, lines))


def read(path: Path) -> tuple[NDArray[np.generic], Geometry]:
    """Voxels (z, y, x) and geometry, LPS mm. Raises VolumeError where the file is damaged or no 3D image in space."""
    try:
        array, header = nrrd.read(str(path), index_order="C")
    except (nrrd.NRRDError, OSError, EOFError, ValueError, KeyError) as error:
        raise VolumeError(f"{path} is damaged or incomplete ({error}); copy or export it again.") from error
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise VolumeError(f"{path} is not a 3D image of numbers; give a CT.")
    space = str(header.get("space", ""))
    signs = _TO_LPS.get(_SHORT.get(space.upper(), space.lower()))
    directions, origin = header.get("space directions"), header.get("space origin")
    if signs is None or directions is None or origin is None:
        raise VolumeError(f"{path} does not say where its voxels lie in the patient; save the CT again.")
    matrix = np.eye(4)
    matrix[:3, :3] = (np.asarray(directions, np.float64) * signs).T
    matrix[:3, 3] = np.asarray(origin, np.float64) * signs
    return array, Geometry.from_matrix((array.shape[0], array.shape[1], array.shape[2]), matrix)
