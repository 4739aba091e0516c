"""Atomic writes: an output file is complete or absent, never half-written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from CTSAM3DLib.errors import OutputError

_IN_USE_ON_WINDOWS = (32, 33)  # ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION; Python makes them PermissionErrors


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path with the same file name, which replaces `path` when the block succeeds.

    A failure leaves the file at `path` as it was. Raises OutputError where the system refuses to write.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or choose another.")
    try:
        # In the same folder: only a rename within one file system is atomic.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            temporary = Path(folder, path.name)
            yield temporary
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {describe_os_error(error)}.") from error


def check_output(path: Path, formats: Sequence[str], instead_of: Path | None = None) -> None:
    """Raise OutputError unless `path` can be written.

    Args:
        path: the output file.
        formats: allowed endings, such as ".nii.gz".
        instead_of: an input file that must not be overwritten.

    """
    if not path.name.lower().endswith(tuple(formats)):
        raise OutputError(f"{path.name} has an unknown ending; choose one of {', '.join(formats)}.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it or choose another.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; choose another name.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"There is no permission to write in the folder {path.parent}; choose another.")
    if instead_of is not None and _is_same_file(path, instead_of):
        raise OutputError(f"{path} is the CT itself; choose another name for the mask.")


def _is_same_file(path: Path, other: Path) -> bool:
    """Whether both paths name one file, also on file systems that ignore case."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


def describe_os_error(error: OSError) -> str:
    """The reason why a file cannot be written, with the fix, as the end of a sentence."""
    if getattr(error, "winerror", None) in _IN_USE_ON_WINDOWS:
        return "another program has it open, so close it there and try again"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "there is no permission to write in its folder, so choose another"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full, so free some space or choose another folder"
    if isinstance(error, IsADirectoryError):
        return "there is a folder of this name, so choose another name"
    return f"{error.strerror or error}"
