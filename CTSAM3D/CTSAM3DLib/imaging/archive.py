"""Zips of CTs, unpacked inside one folder and no larger than is said."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from CTSAM3DLib.atomic import describe_os_error
from CTSAM3DLib.errors import OutputError, VolumeError

MAX_UNPACKED = 16 * 2**30
"""Bytes that a zip may unpack to."""


def is_zip(path: Path) -> bool:
    """Whether a file is a zip, or was one before it was damaged."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" or zipfile.is_zipfile(path)


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip into a folder, and return its files.

    Raises:
        VolumeError: the file is no zip that can be read, is too large, or holds links or names that lead elsewhere.
        OutputError: the files cannot be written.

    """
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
        raise VolumeError(f"{archive.name} cannot be unpacked ({error}); give its files instead.") from error
    except OSError as error:
        raise OutputError(f"{archive.name} cannot be unpacked: {describe_os_error(error)}.") from error


def safe_path(folder: Path, name: str) -> Path:
    """Where a file of this name, with folders perhaps, goes inside a folder. Raises VolumeError if it would not."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
    if not parts or ".." in parts or any("\0" in part or ":" in part for part in parts):
        raise VolumeError(f"{name!r} cannot be the name of a file; rename it.")
    return folder.joinpath(*parts)
