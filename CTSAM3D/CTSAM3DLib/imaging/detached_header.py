"""Security check of detached headers: MetaImage and NRRD headers that name the files of their voxels.

A malicious header could name any file that the reading account can open, and the contents would leave as an image. The
syntax accepted here is narrower than ITK's, so that no text names one file here and another one in ITK.
"""

from __future__ import annotations

import re
from pathlib import Path

from CTSAM3DLib.errors import VolumeError

_MAX_HEADER = 2**20
_META_FIELD = re.compile(r"[ \t]*([!-9;-<>-~]{1,100})[ \t]*=([^\r\0]{0,300})")  # MetaIO gives up at 500 characters
_META_DATA_FILE = "ElementDataFile"
_LIST = re.compile(r"LIST(\s+\d+)?")


def check_names_nothing_elsewhere(path: Path, image_io: str) -> None:
    """Raise VolumeError where the header names a file outside its own folder and the folders below.

    `image_io` is ITK's name of the file's reader. The error does not reveal whether a file elsewhere exists.
    """
    read_names = {"MetaImageIO": _named_by_meta_image, "NrrdImageIO": _named_by_nrrd}.get(image_io)
    if read_names is None:
        return
    with path.open("rb") as file:
        text = file.read(_MAX_HEADER).decode("latin-1")
        is_whole = not file.read(1)
    lines = text.replace("\r\n", "\n").split("\n")
    names = read_names(lines if is_whole else lines[:-1])
    if names is None or (names and not is_whole):
        raise VolumeError(
            f"{path} does not say plainly where its voxels are; save the CT as one file (.nii.gz, .nrrd or .mha)."
        )
    for name in names:
        if not _lies_in(path.parent, name):
            raise VolumeError(
                f"{path} names {name[:80]!r} for its voxels, which is no file that came with it; give the header and "
                "its files together, or save the CT as one file (.nii.gz, .nrrd or .mha)."
            )


def _named_by_meta_image(lines: list[str]) -> list[str] | None:
    """The files in `ElementDataFile`, the header's last field; None where a line before it is no plain field."""
    for number, line in enumerate(lines):
        if not line.strip(" \t"):
            continue
        field = _META_FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field[1], field[2].strip()
        if name == _META_DATA_FILE:
            return [] if value in ("LOCAL", "Local", "local") else _named(value, lines[number + 1 :])
        if name.lower() == _META_DATA_FILE.lower():
            return None
    return None


def _named_by_nrrd(lines: list[str]) -> list[str] | None:
    """The files in the field `data file`; none where the voxels follow the empty line that ends the header."""
    names: list[str] | None = []
    for number, line in enumerate(lines):
        if not line:
            return names
        if "\r" in line or "\0" in line:
            return None
        field, _, value = line.partition(":")
        if "".join(field.split()).lower() == "datafile":
            if names:
                return None
            names = _named(value.strip(), lines[number + 1 :])
            if names is None or _LIST.fullmatch(value.strip()):
                return names
    return names or None


def _named(value: str, following: list[str]) -> list[str] | None:
    if _LIST.fullmatch(value):
        return [line.strip() for line in following if line.strip()]
    return None if value.upper().startswith("LIST") else [value]


def _lies_in(folder: Path, name: str) -> bool:
    """Whether `name` is a file in the folder or below; `-` would be standard input, and `%` begins a pattern."""
    if (
        name in ("", "-")
        or name.startswith(("/", "~"))
        or ".." in name.split("/")
        or any(mark in name for mark in "\\:%\0")
    ):
        return False
    try:
        file = (folder / name).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except OSError:  # a name that is too long
        return False
