"""From what a person drops on the page to a CT: files, folders and zips, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from CTSAM3DLib.errors import CTSAM3DError, VolumeError
from CTSAM3DLib.imaging.volume import Volume


def read_ct(path: Path, untrusted: bool = True) -> Volume:
    """Read a CT from a file or a folder, an uploaded one as untrusted (`Volume.read`). Raises VolumeError."""
    try:
        volume = Volume.read(path, untrusted)
    except VolumeError as error:  # where uploads lie is nobody's concern
        raise VolumeError(str(error).replace(str(path), path.name)) from error
    volume.check_ct()
    return volume


def find_ct(files: Sequence[Path]) -> Path:
    """What to read of dropped files: the one file, or the folder that all are in. Raises VolumeError for none."""
    if not files:
        raise VolumeError("There is no file in what was dropped; drop a CT, its DICOM folder, or a zip of it.")
    return files[0] if len(files) == 1 else _common_folder(files)


def write_sample(path: Path) -> None:
    """Make the synthetic torso. Raises CTSAM3DError where what it needs is missing, and OutputError."""
    try:
        from CTSAM3DLib.phantom.torso import torso
    except ModuleNotFoundError as missing:
        raise CTSAM3DError(
            f"The sample needs {missing.name}, which is missing; install it by: pip install 'ctsam3d[web]'."
        ) from missing
    torso().ct.write(path)


def _common_folder(files: Sequence[Path]) -> Path:
    parents = [set(file.parents) for file in files]
    return max(set.intersection(*parents), key=lambda folder: len(folder.parts))
