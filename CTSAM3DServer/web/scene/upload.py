"""From what a person drops on the page to a CT: files, folders and zips, as they come."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from CTSAM3DLib.atomic import describe_os_error
from CTSAM3DLib.errors import CTSAM3DError, OutputError, VolumeError
from CTSAM3DLib.imaging.volume import Volume

IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
MAX_UNPACKED = 16 * 2**30
"""Bytes that a zip may unpack to."""


def read_ct(path: Path, untrusted: bool = True) -> Volume:
    """Read a CT from a file or a folder, an uploaded one as untrusted (`Volume.read`). Raises VolumeError."""
    try:
        volume = Volume.read(path, untrusted)
    except VolumeError as error:  # where uploads lie is nobody's concern
        raise VolumeError(str(error).replace(str(path), path.name)) from error
    volume.check_ct()
    return volume


def find_ct(files: Sequence[Path]) -> Path:
    """The one image among dropped files, or the folder that all are in, for a DICOM series; zips are unpacked.

    Raises VolumeError where there are several images.
    """
    if len(files) == 1 and files[0].suffix.lower() == ".zip":
        return find_ct(_unpacked(files[0]))
    images = [
        file for file in files if file.name.lower().endswith(IMAGES) and not file.name.lower().endswith(".seg.nrrd")
    ]
    if len(images) > 1:
        raise VolumeError(f"There are {len(images)} images among these files; drop one CT at a time.")
    if images:
        return images[0]
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


def safe_path(folder: Path, name: str) -> Path:
    """Where a file of this name, with folders perhaps, goes inside a folder. Raises VolumeError if it would not."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
    if not parts or ".." in parts or any("\0" in part or ":" in part for part in parts):
        raise VolumeError(f"{name!r} cannot be the name of a file; rename it.")
    return folder.joinpath(*parts)


def _unpacked(archive: Path) -> list[Path]:
    folder = archive.with_suffix("")
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
                raise VolumeError(
                    f"{archive.name} unpacks to more than {MAX_UNPACKED // 2**30} GiB; open its CT alone."
                )
            files = []
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise VolumeError(f"{archive.name} holds a link, {entry.filename!r}; pack the file itself.")
                target = safe_path(folder, entry.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
                files.append(target)
            return files
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise VolumeError(f"{archive.name} is not a zip that can be read; pack it again.") from error
    except (NotImplementedError, RuntimeError) as error:  # an unknown compression, a password
        raise VolumeError(f"{archive.name} cannot be unpacked ({error}); drop its files instead.") from error
    except OSError as error:
        raise OutputError(f"{archive.name} cannot be unpacked: {describe_os_error(error)}.") from error


def _common_folder(files: Sequence[Path]) -> Path:
    parents = [set(file.parents) for file in files]
    return max(set.intersection(*parents), key=lambda folder: len(folder.parts))
